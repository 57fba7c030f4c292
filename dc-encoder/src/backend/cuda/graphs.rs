//! Which graphs are kept: the ones that were used last.

/// Things by key, at most so many; the one that was used longest ago makes way.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    /// The last one was used last.
    entries: Vec<(K, V)>,
    most: usize,
}

impl<K: PartialEq, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { entries: Vec::new(), most: most.max(1) }
    }

    /// What is kept for a key; it counts as used.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let at = self.entries.iter().position(|(known, _)| known == key)?;
        self.entries[at..].rotate_left(1);
        self.entries.last().map(|(_, value)| value)
    }

    /// Keeps a value for a key that is not kept yet.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.entries.len() == self.most {
            self.entries.remove(0);
        }
        self.entries.push((key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_used_longest_ago_makes_way() {
        let mut recent = Recent::new(2);
        recent.insert(1, "one");
        recent.insert(2, "two");
        assert_eq!(recent.get(&1), Some(&"one"));
        recent.insert(3, "three");
        assert_eq!(recent.get(&2), None);
        assert_eq!(recent.get(&1), Some(&"one"));
        assert_eq!(recent.get(&3), Some(&"three"));
    }
}
