//! Counters of one family, told apart by one word.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How often each of some known things happened. All are there from the start, at 0: a rate needs the first step too.
#[derive(Debug)]
pub struct Counters(Mutex<BTreeMap<&'static str, u64>>);

impl Counters {
    /// Of these.
    pub fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Mutex::new(words.into_iter().map(|word| (word, 0)).collect()))
    }

    /// It happened once more.
    pub fn add(&self, word: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += 1;
    }

    /// All of them now.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_there_too() {
        let counters = Counters::new(["a", "b"]);
        counters.add("b");
        counters.add("c");
        assert_eq!(counters.counts(), BTreeMap::from([("a", 0), ("b", 1), ("c", 1)]));
    }
}
