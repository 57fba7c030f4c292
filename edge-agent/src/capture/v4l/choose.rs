//! Which of a camera's formats and sizes to use. Pure.

use crate::capture::Pixels;

/// A format a camera offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// V4L2's four-character code.
    pub(super) code: [u8; 4],
    /// Its sizes.
    pub(super) sizes: Vec<Sizes>,
}

/// One entry of a format's list of sizes; width before height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    One((u32, u32)),
    Range { min: (u32, u32), max: (u32, u32), step: (u32, u32) },
}

/// What to ask of the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) code: [u8; 4],
    pub(super) pixels: Pixels,
    pub(super) size: (u32, u32),
}

/// The smallest picture that covers the wanted size, MJPEG first (raw video at that size is slow over USB, and would
/// have to be encoded here) and grey last; the largest picture if none covers it. Only `pixels` where they are given.
/// `None` if the camera offers nothing that is read.
pub(super) fn choose(offers: &[Offer], wanted: (u32, u32), pixels: Option<Pixels>) -> Option<Choice> {
    let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
    let covers = |(width, height): (u32, u32)| width >= wanted.0 && height >= wanted.1;
    offers
        .iter()
        .filter_map(|offer| Some((offer, Pixels::of(offer.code)?)))
        .filter(|(_, offered)| pixels.is_none_or(|pixels| pixels == *offered))
        .flat_map(|(offer, pixels)| {
            let sizes = offer.sizes.iter().map(|sizes| sizes.nearest(wanted));
            sizes.map(move |size| Choice { code: offer.code, pixels, size })
        })
        .filter(|choice| area(choice.size) > 0)
        .min_by_key(|choice| {
            let kind = match choice.pixels {
                Pixels::Mjpeg => 0u64,
                Pixels::Yuyv | Pixels::Uyvy | Pixels::Nv12 => 1,
                Pixels::Grey => 2,
            };
            match covers(choice.size) {
                true => (0, kind, area(choice.size), choice.pixels),
                false => (1, u64::MAX - area(choice.size), kind, choice.pixels),
            }
        })
}

impl Sizes {
    /// The smallest size that covers `wanted`, as far as the range goes.
    fn nearest(self, wanted: (u32, u32)) -> (u32, u32) {
        let side = |wanted: u32, min: u32, max: u32, step: u32| {
            let steps = wanted.saturating_sub(min).div_ceil(step.max(1));
            let most = max.saturating_sub(min) / step.max(1);
            min.saturating_add(steps.min(most).saturating_mul(step.max(1)))
        };
        match self {
            Self::One(size) => size,
            Self::Range { min, max, step } => {
                (side(wanted.0, min.0, max.0, step.0), side(wanted.1, min.1, max.1, step.1))
            }
        }
    }
}

/// The offers for an error message: `H264, GREY 640x480`.
pub(super) fn list(offers: &[Offer]) -> String {
    if offers.is_empty() {
        return "nothing".to_owned();
    }
    let name = |offer: &Offer| String::from_utf8_lossy(&offer.code).trim().to_owned();
    offers.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(code: &[u8; 4], sizes: &[(u32, u32)]) -> Offer {
        Offer { code: *code, sizes: sizes.iter().copied().map(Sizes::One).collect() }
    }

    fn chosen(offers: &[Offer], wanted: (u32, u32)) -> (Pixels, (u32, u32)) {
        let choice = choose(offers, wanted, None).unwrap();
        (choice.pixels, choice.size)
    }

    const HD: (u32, u32) = (1280, 720);

    #[test]
    fn mjpeg_first_at_the_wanted_size() {
        let usb = [
            offer(b"YUYV", &[(640, 480), HD, (1920, 1080)]),
            offer(b"MJPG", &[(1920, 1080), (640, 480), HD]),
        ];
        assert_eq!(chosen(&usb, HD), (Pixels::Mjpeg, HD));
        assert_eq!(chosen(&usb, (800, 600)), (Pixels::Mjpeg, HD));
        assert_eq!(chosen(&usb, (4000, 4000)), (Pixels::Mjpeg, (1920, 1080)));
    }

    #[test]
    fn yuyv_where_mjpeg_is_too_small_or_missing() {
        let offers = [offer(b"MJPG", &[(640, 480)]), offer(b"YUYV", &[(640, 480), HD])];
        assert_eq!(chosen(&offers, HD), (Pixels::Yuyv, HD));
        assert_eq!(chosen(&offers, (320, 240)), (Pixels::Mjpeg, (640, 480)));
        assert_eq!(chosen(&offers[1..], (320, 240)), (Pixels::Yuyv, (640, 480)));
    }

    #[test]
    fn raw_pixels_by_preference_or_as_asked_for() {
        let offers = [offer(b"GREY", &[(640, 480)]), offer(b"NV12", &[HD]), offer(b"UYVY", &[HD])];
        assert_eq!(chosen(&offers, HD).0, Pixels::Uyvy);
        assert_eq!(chosen(&offers, (320, 240)), (Pixels::Uyvy, HD), "colour before a small picture");
        let asked = |pixels| choose(&offers, HD, Some(pixels)).map(|choice| (choice.code, choice.size));
        assert_eq!(asked(Pixels::Nv12), Some((*b"NV12", HD)));
        assert_eq!(asked(Pixels::Grey), Some((*b"GREY", (640, 480))));
        assert_eq!(asked(Pixels::Mjpeg), None);
    }

    #[test]
    fn ranges_are_met_on_their_grid() {
        let range = Sizes::Range { min: (32, 32), max: (1920, 1080), step: (16, 8) };
        let offers = [Offer { code: *b"YUYV", sizes: vec![range] }];
        assert_eq!(chosen(&offers, (1000, 500)), (Pixels::Yuyv, (1008, 504)));
        assert_eq!(chosen(&offers, (9999, 9999)), (Pixels::Yuyv, (1920, 1080)));
        assert_eq!(chosen(&offers, (1, 1)), (Pixels::Yuyv, (32, 32)));
        let broken = Sizes::Range { min: (8, 8), max: (4, 4), step: (0, 0) };
        assert_eq!(broken.nearest((100, 100)), (8, 8));
    }

    #[test]
    fn other_formats_are_named() {
        let offers = [offer(b"H264", &[HD]), offer(b"Y16 ", &[HD])];
        assert_eq!(choose(&offers, HD, None), None);
        assert_eq!(list(&offers), "H264, Y16");
        assert_eq!((choose(&[], HD, None), list(&[])), (None, "nothing".to_owned()));
    }
}
