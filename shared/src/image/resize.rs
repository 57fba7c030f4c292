//! Changing an image's size, antialiased.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::Rgb;

/// Resizes to `width × height`, stretching where the shape differs. An image that has that size already is
/// copied unchanged.
///
/// Bilinear with antialiasing: each axis is a triangle filter whose support grows with the reduction, as in
/// Pillow's `BILINEAR` and torchvision's `antialias=True`; results are within one level of Pillow's. Panics if
/// a side is zero or `data` is not `width × height × 3` bytes.
pub fn resize(image: &Rgb, width: u32, height: u32) -> Rgb {
    resize_with(&mut Resizer::new(), image, width, height)
}

fn resize_with(resizer: &mut Resizer, image: &Rgb, width: u32, height: u32) -> Rgb {
    assert!(width > 0 && height > 0, "cannot resize to {width}×{height} pixels");
    if (width, height) == (image.width, image.height) {
        return image.clone();
    }
    // Typed images: the untyped call compiles the resizer for every pixel type there is, minutes of work.
    let source = TypedImageRef::<U8x3>::from_buffer(image.width, image.height, &image.data)
        .expect("an image has width × height × 3 bytes");
    let mut data = vec![0; width as usize * height as usize * 3];
    let mut target = TypedImage::<U8x3>::from_buffer(width, height, &mut data).expect("sized for the target");
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    resizer
        .resize_typed(&source, &mut target, &options)
        .expect("neither image is empty, and nothing is cropped");
    Rgb { width, height, data }
}

/// The largest size of the same shape as `width × height` that fits in `max_width × max_height`, never larger
/// than the original and at least one pixel a side. Integer arithmetic, rounded half up: no platform differs.
pub fn fit_within(width: u32, height: u32, max_width: u32, max_height: u32) -> (u32, u32) {
    if width <= max_width && height <= max_height {
        return (width, height);
    }
    let (w, h) = (u64::from(width), u64::from(height));
    let (mw, mh) = (u64::from(max_width.max(1)), u64::from(max_height.max(1)));
    let scaled = |side: u64, to: u64, from: u64| (((side * to * 2 + from) / (from * 2)).max(1)) as u32;
    if w * mh >= h * mw { (mw as u32, scaled(h, mw, w)) } else { (scaled(w, mh, h), mh as u32) }
}

#[cfg(test)]
mod tests {
    use fast_image_resize::CpuExtensions;

    use super::*;

    #[test]
    fn fits_and_keeps_the_shape() {
        assert_eq!(fit_within(1920, 1080, 960, 576), (960, 540));
        assert_eq!(fit_within(1024, 768, 960, 576), (768, 576));
        assert_eq!(fit_within(576, 960, 960, 576), (346, 576));
        assert_eq!(fit_within(640, 480, 960, 576), (640, 480), "never enlarged");
        assert_eq!(fit_within(65_535, 1, 960, 576), (960, 1), "never vanishes");
        assert_eq!(fit_within(960, 577, 960, 576), (958, 576));
    }

    #[test]
    fn every_processor_path_gives_the_same_bytes() {
        let noise = crate::image::testing::noise(193, 131, 7);
        let with = |extensions: CpuExtensions, width, height| {
            let mut resizer = Resizer::new();
            #[allow(unsafe_code)] // SAFETY: is_supported() was asked below.
            unsafe {
                resizer.set_cpu_extensions(extensions);
            }
            resize_with(&mut resizer, &noise, width, height).data
        };
        #[cfg(target_arch = "x86_64")]
        let paths = [CpuExtensions::Sse4_1, CpuExtensions::Avx2];
        #[cfg(target_arch = "aarch64")]
        let paths = [CpuExtensions::Neon];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let paths: [CpuExtensions; 0] = [];
        for path in paths.into_iter().filter(CpuExtensions::is_supported) {
            for (width, height) in [(96, 65), (61, 131), (193, 40), (400, 300), (7, 5), (1, 1)] {
                let plain = with(CpuExtensions::None, width, height);
                assert!(with(path, width, height) == plain, "{path:?} differs at {width}×{height}");
            }
        }
    }
}
