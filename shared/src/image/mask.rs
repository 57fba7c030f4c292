//! Regions of a picture that nobody is to see.
//!
//! A pixel is hidden if any of it is within the region. Filled, a region says nothing but where it is; pixelated, it still
//! says how bright and of what colour each block was on average.

use std::str::FromStr;

use super::Rgb;

/// What a filled region shows: a grey that costs a JPEG next to nothing.
const GREY: [u8; 3] = [128; 3];

/// Most corners of a polygon: no outline of a window or a neighbour's garden has more.
const MAX_CORNERS: usize = 64;

/// Smallest blocks, in pixels: below, a face is a face.
const MIN_BLOCK: u32 = 8;

/// Largest blocks, in pixels.
const MAX_BLOCK: u32 = 1024;

/// Least share of the picture: less is a slip of the pen.
const MIN_AREA: f32 = 1e-6;

/// How a region is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hide {
    /// Grey.
    Fill,
    /// Squares of so many pixels of the captured frame, each of the average colour of what it hides.
    Pixelate(u32),
}

/// A region of every picture, in fractions of its sides, counted from the top left.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    corners: Vec<[f32; 2]>,
    hide: Hide,
}

/// Why a region is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MaskError {
    /// Not in the picture.
    #[error("{0} is outside the picture")]
    Outside(f32),
    /// A rectangle without an inside.
    #[error("its right and bottom are not beyond its left and top")]
    Reversed,
    /// Too few or too many corners.
    #[error("it has {0} corners")]
    Corners(usize),
    /// Sides that cross or touch.
    #[error("its sides {0} and {1} cross or touch")]
    Crossing(usize, usize),
    /// No area.
    #[error("it covers nothing")]
    Empty,
    /// Blocks of a size that hides nothing, or everything.
    #[error("blocks of {0} pixels")]
    Block(u32),
    /// Words that are no region.
    #[error(
        "{0:?} is neither left,top,right,bottom nor the columns and rows of three corners or more, as fractions of the \
         picture, with :N behind for squares of N pixels instead of grey"
    )]
    Words(String),
}

/// As on a command line: `0,0,0.3,1` is a rectangle, `0.1,0,0.9,0,0.5,0.4` a triangle, `…:16` pixelates.
impl FromStr for Mask {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        let words = || MaskError::Words(text.to_owned());
        let (numbers, hide) = match text.split_once(':') {
            None => (text, Hide::Fill),
            Some((numbers, block)) => (numbers, Hide::Pixelate(block.parse().map_err(|_| words())?)),
        };
        let numbers: Vec<f32> =
            numbers.split(',').map(|it| it.trim().parse()).collect::<Result<_, _>>().map_err(|_| words())?;
        match (numbers.as_slice(), numbers.as_chunks()) {
            ([left, top, right, bottom], _) => Self::rectangle([*left, *top, *right, *bottom], hide),
            (_, (corners, [])) => Self::polygon(corners.to_vec(), hide),
            _ => Err(words()),
        }
    }
}

impl Mask {
    /// A rectangle: left, top, right, bottom.
    ///
    /// # Errors
    /// As [`polygon`](Self::polygon); sides in the wrong order.
    pub fn rectangle([left, top, right, bottom]: [f32; 4], hide: Hide) -> Result<Self, MaskError> {
        let mask = Self::polygon(vec![[left, top], [right, top], [right, bottom], [left, bottom]], hide);
        match mask {
            Err(MaskError::Outside(at)) => Err(MaskError::Outside(at)),
            _ if left >= right || top >= bottom => Err(MaskError::Reversed),
            mask => mask,
        }
    }

    /// A polygon of 3 to 64 corners, each column and row, in either direction; its sides do not cross.
    ///
    /// # Errors
    /// A corner outside `[0, 1]`, sides that cross, no area, blocks that hide nothing.
    pub fn polygon(corners: Vec<[f32; 2]>, hide: Hide) -> Result<Self, MaskError> {
        // Not a number is outside, too.
        if let Some(at) = corners.iter().flatten().find(|at| !(0.0..=1.0).contains(*at)) {
            return Err(MaskError::Outside(*at));
        }
        if !(3..=MAX_CORNERS).contains(&corners.len()) {
            return Err(MaskError::Corners(corners.len()));
        }
        if let Hide::Pixelate(block) = hide
            && !(MIN_BLOCK..=MAX_BLOCK).contains(&block)
        {
            return Err(MaskError::Block(block));
        }
        let mask = Self { corners, hide };
        if let Some((a, b)) = mask.crossing() {
            return Err(MaskError::Crossing(a + 1, b + 1));
        }
        if mask.area() < MIN_AREA { Err(MaskError::Empty) } else { Ok(mask) }
    }

    /// The share of the picture that it hides.
    pub fn area(&self) -> f32 {
        let twice: f32 = self.sides().map(|([ax, ay], [bx, by])| ax * by - bx * ay).sum();
        twice.abs() / 2.0
    }

    /// How it hides.
    pub fn hide(&self) -> Hide {
        self.hide
    }

    /// Hides the region. A few milliseconds for all of a large frame; pixels outside stay as they are.
    pub fn apply(&self, image: &mut Rgb) {
        match self.hide {
            Hide::Fill => {
                for y in 0..image.height {
                    for (from, to) in self.spans(image.width, image.height, y) {
                        let row = y as usize * image.width as usize;
                        let pixels = &mut image.data[(row + from) * 3..(row + to) * 3];
                        pixels.as_chunks_mut::<3>().0.fill(GREY);
                    }
                }
            }
            Hide::Pixelate(block) => {
                for top in (0..image.height).step_by(block as usize) {
                    self.pixelate(image, top..image.height.min(top + block), block as usize);
                }
            }
        }
    }

    /// One row of blocks: what is hidden of each takes its average.
    fn pixelate(&self, image: &mut Rgb, rows: std::ops::Range<u32>, block: usize) {
        let (width, height) = (image.width, image.height);
        let hidden: Vec<(usize, usize)> = rows
            .flat_map(|y| {
                let row = y as usize * width as usize;
                self.spans(width, height, y)
                    .into_iter()
                    .flat_map(move |(from, to)| (from..to).map(move |x| ((row + x) * 3, x / block)))
            })
            .collect();
        let mut sums = vec![[0_u64; 4]; (width as usize).div_ceil(block)];
        for (at, column) in &hidden {
            let [sums @ .., count] = &mut sums[*column];
            sums.iter_mut().zip(&image.data[*at..at + 3]).for_each(|(sum, value)| *sum += u64::from(*value));
            *count += 1;
        }
        for (at, column) in hidden {
            let [sums @ .., count] = sums[column];
            let mean = sums.map(|sum| ((sum + count / 2) / count.max(1)) as u8);
            image.data[at..at + 3].copy_from_slice(&mean);
        }
    }

    /// The columns of row `y` that are hidden, as ranges that do not overlap.
    fn spans(&self, width: u32, height: u32, y: u32) -> Vec<(usize, usize)> {
        let (top, bottom) = (y as f32 / height as f32, (y + 1) as f32 / height as f32);
        let middle = (top + bottom) / 2.0;
        let (mut spans, mut crossings) = (Vec::new(), Vec::new());
        for ([ax, ay], [bx, by]) in self.sides() {
            if ay.max(by) < top || ay.min(by) >= bottom {
                continue;
            }
            // What of the side is within the row: the pixels it passes are hidden whole.
            let at = |y: f32| if ay == by { ax } else { ax + (y - ay) / (by - ay) * (bx - ax) };
            let (one, other) = match ay == by {
                true => (ax, bx),
                false => (at(ay.clamp(top, bottom)), at(by.clamp(top, bottom))),
            };
            spans.push((one.min(other), one.max(other)));
            if (ay < middle) != (by < middle) {
                crossings.push(at(middle));
            }
        }
        crossings.sort_by(f32::total_cmp);
        spans.extend(crossings.as_chunks::<2>().0.iter().map(|[from, to]| (*from, *to)));
        let pixel = |x: f32| (x * width as f32) as usize;
        let mut spans: Vec<(usize, usize)> = spans
            .into_iter()
            .map(|(from, to)| (pixel(from).min(width as usize - 1), (pixel(to) + 1).min(width as usize)))
            .collect();
        spans.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(spans.len());
        for (from, to) in spans {
            match merged.last_mut().filter(|(_, end)| from <= *end) {
                Some((_, end)) => *end = to.max(*end),
                None => merged.push((from, to)),
            }
        }
        merged
    }

    fn sides(&self) -> impl Iterator<Item = ([f32; 2], [f32; 2])> {
        let next = self.corners.iter().cycle().skip(1);
        self.corners.iter().copied().zip(next.copied())
    }

    /// Two sides that are no neighbours and meet, or neighbours that fold back on each other.
    fn crossing(&self) -> Option<(usize, usize)> {
        let sides: Vec<_> = self.sides().collect();
        let n = sides.len();
        let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
        pairs.into_iter().find(|(i, j)| {
            let ((a, b), (c, d)) = (sides[*i], sides[*j]);
            match (*j == i + 1, *i == 0 && *j == n - 1) {
                (true, _) => a != b && on(a, b, d) || c != d && on(c, d, a) || a == b,
                (_, true) => on(a, b, c) || on(c, d, b),
                _ => meet((a, b), (c, d)),
            }
        })
    }
}

/// Twice the area of a triangle; its sign says on which side of `ab` `c` is.
fn turn([ax, ay]: [f32; 2], [bx, by]: [f32; 2], [cx, cy]: [f32; 2]) -> f32 {
    (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
}

/// Whether `c` lies on the side from `a` to `b`.
fn on(a: [f32; 2], b: [f32; 2], c: [f32; 2]) -> bool {
    let within = |i: usize| (a[i].min(b[i])..=a[i].max(b[i])).contains(&c[i]);
    turn(a, b, c) == 0.0 && within(0) && within(1)
}

fn meet((a, b): ([f32; 2], [f32; 2]), (c, d): ([f32; 2], [f32; 2])) -> bool {
    let apart = |from: f32, to: f32| from * to < 0.0;
    let crosses = apart(turn(a, b, c), turn(a, b, d)) && apart(turn(c, d, a), turn(c, d, b));
    crosses || on(a, b, c) || on(a, b, d) || on(c, d, a) || on(c, d, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::noise;

    fn rectangle(sides: [f32; 4], hide: Hide) -> Mask {
        Mask::rectangle(sides, hide).unwrap()
    }

    fn masked(mask: &Mask, image: &Rgb) -> Rgb {
        let mut image = image.clone();
        mask.apply(&mut image);
        image
    }

    /// The pixels that differ from `image`.
    fn changed(image: &Rgb, after: &Rgb) -> Vec<(u32, u32)> {
        let all = (0..image.height).flat_map(|y| (0..image.width).map(move |x| (x, y)));
        all.filter(|(x, y)| image.pixel(*x, *y) != after.pixel(*x, *y)).collect()
    }

    #[test]
    fn regions_are_read_from_words() {
        let read = |text: &str| text.parse::<Mask>();
        assert_eq!(read("0, 0,0.3,1"), Mask::rectangle([0.0, 0.0, 0.3, 1.0], Hide::Fill));
        let corners = vec![[0.1, 0.0], [0.9, 0.0], [0.5, 0.4]];
        assert_eq!(read("0.1,0,0.9,0,0.5,0.4:16"), Mask::polygon(corners, Hide::Pixelate(16)));
        assert_eq!(read("0.3,0,0,1"), Err(MaskError::Reversed));
        assert_eq!(
            read("0,0,1,NaN").map_err(|error| error.to_string()),
            Err("NaN is outside the picture".to_owned())
        );
        assert_eq!(read("0,0,1,1:2"), Err(MaskError::Block(2)));
        for bad in ["", "0,0,1", "0,0,1,1,1", "a,b,c,d", "0,0,1,1:", "0,0,1,1:x", "0,0,1,1:8:8"] {
            assert_eq!(read(bad), Err(MaskError::Words(bad.to_owned())));
        }
        assert_eq!(read("0,1"), Err(MaskError::Corners(1)));
    }

    #[test]
    fn a_rectangle_is_hidden_to_its_last_pixel_and_nothing_else_changes() {
        let image = noise(40, 20, 1);
        let after = masked(&rectangle([0.25, 0.5, 0.5, 1.0], Hide::Fill), &image);
        for (x, y) in changed(&image, &after) {
            assert!((10..=20).contains(&x) && y >= 10, "{x}, {y}");
        }
        for (x, y) in (10..20).flat_map(|x| (10..20).map(move |y| (x, y))) {
            assert_eq!(after.pixel(x, y), GREY);
        }
        // Sides between pixels hide all of those that they pass.
        let after = masked(&rectangle([0.26, 0.51, 0.49, 0.93], Hide::Fill), &image);
        for (x, y) in [(10, 10), (19, 18), (10, 18), (19, 10)] {
            assert_eq!(after.pixel(x, y), GREY, "{x}, {y}");
        }
        assert!(changed(&image, &after).iter().all(|(x, y)| (10..20).contains(x) && (10..19).contains(y)));
    }

    #[test]
    fn what_is_hidden_does_not_show_in_any_byte() {
        let (one, other) = (noise(64, 48, 1), noise(64, 48, 2));
        let star = vec![[0.5, 0.1], [0.6, 0.5], [0.9, 0.5], [0.65, 0.6], [0.7, 0.95], [0.4, 0.7], [0.1, 0.9]];
        let mask = Mask::polygon(star, Hide::Fill).unwrap();
        let black = Rgb::filled(64, 48, [0; 3]);
        let inside = changed(&black, &masked(&mask, &black));
        let share = inside.len() as f32 / (64.0 * 48.0);
        assert!(share > mask.area() && share < mask.area() + 0.12, "{share} of {}", mask.area());
        // The same picture but for what is inside: nobody can tell them apart.
        let mut twin = one.clone();
        for (x, y) in &inside {
            let at = (*y as usize * 64 + *x as usize) * 3;
            twin.data[at..at + 3].copy_from_slice(&other.pixel(*x, *y));
        }
        assert_ne!(one, twin);
        assert_eq!(masked(&mask, &one), masked(&mask, &twin));
        // Every point of the outline is in a hidden pixel.
        for ([ax, ay], [bx, by]) in mask.sides() {
            for step in 0..=100 {
                let t = step as f32 / 100.0;
                let (x, y) = ((ax + t * (bx - ax)) * 64.0, (ay + t * (by - ay)) * 48.0);
                let near = inside.iter().any(|(px, py)| {
                    (x - *px as f32 - 0.5).abs() <= 0.501 && (y - *py as f32 - 0.5).abs() <= 0.501
                });
                assert!(near, "{x}, {y}");
            }
        }
    }

    #[test]
    fn blocks_keep_their_average_and_no_more() {
        let image = noise(64, 32, 3);
        let mask = rectangle([0.0, 0.0, 0.499, 0.999], Hide::Pixelate(16));
        let after = masked(&mask, &image);
        let block = |image: &Rgb, channel: usize| -> u64 {
            (0..16)
                .flat_map(|y| (16..32).map(move |x| (x, y)))
                .map(|(x, y)| u64::from(image.pixel(x, y)[channel]))
                .sum()
        };
        for channel in 0..3 {
            assert_eq!(u64::from(after.pixel(20, 3)[channel]), (block(&image, channel) + 128) / 256);
            assert_eq!(after.pixel(16, 0)[channel], after.pixel(31, 15)[channel]);
        }
        assert!(changed(&image, &after).iter().all(|(x, _)| *x < 32));
        // Pixels that are not hidden have no part in a block that is half hidden.
        let mut twin = image.clone();
        twin.data.chunks_exact_mut(3 * 64).for_each(|row| row[3 * 40..].fill(0));
        let narrow = rectangle([0.0, 0.0, 0.6, 0.999], Hide::Pixelate(16));
        assert_eq!(masked(&narrow, &image).pixel(34, 5), masked(&narrow, &twin).pixel(34, 5));
    }

    #[test]
    fn what_is_no_region_is_explained() {
        let polygon = |corners: &[[f32; 2]]| Mask::polygon(corners.to_vec(), Hide::Fill).map(|_| ());
        assert_eq!(polygon(&[[0.0, 0.0], [1.0, 0.0]]), Err(MaskError::Corners(2)));
        assert_eq!(polygon(&[[0.0, 0.0], [1.2, 0.0], [0.0, 1.0]]), Err(MaskError::Outside(1.2)));
        assert!(matches!(polygon(&[[0.0, f32::NAN], [1.0, 0.0], [0.0, 1.0]]), Err(MaskError::Outside(_))));
        let bow_tie = [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]];
        assert_eq!(polygon(&bow_tie), Err(MaskError::Crossing(1, 3)));
        assert!(matches!(polygon(&[[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]), Err(MaskError::Crossing(..))));
        assert!(matches!(
            polygon(&[[0.1, 0.1], [0.5, 0.1], [0.5, 0.1], [0.3, 0.6]]),
            Err(MaskError::Crossing(..))
        ));
        assert_eq!(polygon(&[[0.1, 0.1], [0.9, 0.1], [0.5, 0.8]]), Ok(()));
        assert_eq!(Mask::rectangle([0.5, 0.0, 0.2, 1.0], Hide::Fill), Err(MaskError::Reversed));
        assert_eq!(Mask::rectangle([0.5, 0.0, 0.5, 1.0], Hide::Fill), Err(MaskError::Reversed));
        assert_eq!(Mask::rectangle([0.0, 0.0, 0.5, 1.0], Hide::Pixelate(2)), Err(MaskError::Block(2)));
    }
}
