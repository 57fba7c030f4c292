//! Which patches of a grid.

use protocol::Kept;

use super::PatchesError;

/// Some places of a grid, in reading order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    places: Vec<u32>,
    grid: usize,
}

impl Choice {
    /// All places of a grid of so many.
    #[must_use]
    pub fn all(grid: usize) -> Self {
        Self::of(&vec![true; grid])
    }

    /// The places whose flag is set.
    #[must_use]
    pub fn of(flags: &[bool]) -> Self {
        let places = (0u32..).zip(flags).filter(|(_, set)| **set).map(|(place, _)| place).collect();
        Self { places, grid: flags.len() }
    }

    /// As it travels.
    #[must_use]
    pub fn to_wire(&self) -> Kept {
        let mut places = vec![0; self.grid.div_ceil(8)];
        for place in &self.places {
            places[*place as usize / 8] |= 1u8 << (place % 8);
        }
        Kept { count: self.places.len() as u32, places }
    }

    /// What travelled, of a grid of `grid` places.
    ///
    /// # Errors
    /// [`PatchesError::Places`] if it is of another grid.
    pub fn from_wire(kept: &Kept, grid: usize) -> Result<Self, PatchesError> {
        let set = |place: usize| kept.places[place / 8] >> (place % 8) & 1 == 1;
        let (bytes, want) = (kept.places.len(), grid.div_ceil(8));
        if bytes != want || (grid..8 * want).any(set) {
            return Err(PatchesError::Places { bytes, places: grid, want });
        }
        Ok(Self::of(&(0..grid).map(set).collect::<Vec<_>>()))
    }

    /// The places, counted row by row from the top left.
    #[must_use]
    pub fn places(&self) -> &[u32] {
        &self.places
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether it is the whole grid.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.places.len() == self.grid
    }

    /// Places of the grid.
    #[must_use]
    pub fn grid(&self) -> usize {
        self.grid
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_choice_comes_back_from_the_wire(flags in vec(any::<bool>(), 1..400)) {
            let choice = Choice::of(&flags);
            prop_assert_eq!(choice.len(), flags.iter().filter(|set| **set).count());
            let back = Choice::from_wire(&choice.to_wire(), flags.len());
            prop_assert_eq!(back, Ok(choice));
        }
    }

    #[test]
    fn the_lowest_bit_is_the_first_place() {
        let kept = Kept { count: 3, places: vec![0b1000_0001, 1] };
        assert_eq!(Choice::from_wire(&kept, 9).unwrap().places(), [0, 7, 8]);
    }

    #[test]
    fn places_of_another_grid_are_refused() {
        let kept = Choice::all(17).to_wire();
        for grid in [8, 16, 25, 24] {
            let found = Choice::from_wire(&kept, grid);
            if grid == 24 {
                assert_eq!(found.unwrap().len(), 17, "as many bytes, the last seven places free");
            } else {
                assert!(matches!(found, Err(PatchesError::Places { bytes: 3, .. })), "{grid}: {found:?}");
            }
        }
    }
}
