//! A map that is bounded: when it is full, what came first is forgotten first. Pure.
//!
//! It is for caches alone: whoever reads it must be able to do without what it forgot.

use std::collections::BTreeMap;

/// A bounded map. An entry counts for its weight; one entry always fits.
#[derive(Clone, Debug)]
pub struct Recent<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// Keys in the order in which they came.
    order: BTreeMap<u64, K>,
    next: u64,
    weight: usize,
    weight_max: usize,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    came: u64,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    /// An empty map for entries of this weight in all.
    #[must_use]
    pub const fn new(weight_max: usize) -> Self {
        Self { entries: BTreeMap::new(), order: BTreeMap::new(), next: 0, weight: 0, weight_max }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an entry of weight 1.
    pub fn insert(&mut self, key: K, value: V) {
        self.insert_weighed(key, value, 1);
    }

    /// Adds an entry. A key that is there keeps its age and gets the new value.
    pub fn insert_weighed(&mut self, key: K, value: V, weight: usize) {
        let came = self.entries.get(&key).map_or(self.next, |entry| entry.came);
        if came == self.next {
            self.next = self.next.saturating_add(1);
            self.order.insert(came, key.clone());
        }
        self.weight = self.weight.saturating_add(weight);
        if let Some(before) = self.entries.insert(key, Entry { value, weight, came }) {
            self.weight = self.weight.saturating_sub(before.weight);
        }
        while self.weight > self.weight_max && self.entries.len() > 1 {
            self.pop_first();
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let Entry { value, weight, came } = self.entries.remove(key)?;
        self.order.remove(&came);
        self.weight = self.weight.saturating_sub(weight);
        Some(value)
    }

    /// Takes out what came first.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        let Entry { value, weight, .. } = self.entries.remove(&key)?;
        self.weight = self.weight.saturating_sub(weight);
        Some((key, value))
    }

    /// Takes out all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.weight = 0;
    }

    /// Takes out the entries for which this is not so.
    pub fn retain(&mut self, is_kept: impl Fn(&K, &V) -> bool) {
        let gone = self.iter().filter(|(key, value)| !is_kept(key, value));
        let gone: Vec<K> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.remove(&key);
        }
    }

    /// All entries, what came first first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.order.values().filter_map(|key| Some((key, self.get(key)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(map: &Recent<u32, u32>) -> Vec<u32> {
        map.iter().map(|(key, _)| *key).collect()
    }

    #[test]
    fn what_came_first_is_forgotten_first_whatever_its_key() {
        let mut map = Recent::new(3);
        for key in [9, 1, 7, 3] {
            map.insert(key, key);
        }
        assert_eq!(keys(&map), [1, 7, 3]);
        // The newest is never the one that goes.
        map.insert(0, 0);
        assert_eq!(keys(&map), [7, 3, 0]);
        assert_eq!((map.get(&1), map.get(&0), map.len()), (None, Some(&0), 3));
    }

    #[test]
    fn key_that_comes_again_keeps_its_age_and_gets_the_new_value() {
        let mut map = Recent::new(2);
        map.insert(1, 10);
        map.insert(2, 20);
        map.insert(1, 11);
        assert_eq!((keys(&map), map.get(&1)), (vec![1, 2], Some(&11)));
        map.insert(3, 30);
        assert_eq!(keys(&map), [2, 3]);
    }

    #[test]
    fn weights_are_bounded_and_one_entry_always_fits() {
        let mut map = Recent::new(10);
        map.insert_weighed(1, 1, 6);
        map.insert_weighed(2, 2, 4);
        map.insert_weighed(3, 3, 1);
        assert_eq!(keys(&map), [2, 3]);
        map.insert_weighed(2, 2, 1);
        map.insert_weighed(4, 4, 8);
        assert_eq!(keys(&map), [2, 3, 4]);
        map.insert_weighed(5, 5, 99);
        assert_eq!(keys(&map), [5]);
    }

    #[test]
    fn what_is_taken_out_leaves_its_room() {
        let mut map = Recent::new(3);
        for key in 1..=3 {
            map.insert(key, key);
        }
        assert_eq!(map.remove(&2), Some(2));
        map.retain(|key, _| *key != 1);
        assert_eq!(keys(&map), [3]);
        map.insert(4, 4);
        map.insert(5, 5);
        assert_eq!((map.pop_first(), keys(&map)), (Some((3, 3)), vec![4, 5]));
        *map.get_mut(&4).expect("is there") = 40;
        assert!(map.contains(&4) && !map.contains(&1) && !map.is_empty());
        map.clear();
        for key in 6..=9 {
            map.insert(key, key);
        }
        assert_eq!(keys(&map), [7, 8, 9]);
    }
}
