//! Every breaker that the code has named, found without a lock.
//!
//! A child may be forked while another thread of its parent adds one, so there is no lock that it could find held.

use std::array;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use breakerd_proto::Name;

use crate::known::Known;

/// To add a name copies its bucket, so there are enough of them that it costs little beside a hundred thousand others.
const BUCKETS: usize = 1024;

/// The breakers of one client.
#[derive(Debug)]
pub(crate) struct Breakers {
    buckets: Box<[ArcSwapOption<Bucket>; BUCKETS]>,
}

type Bucket = BTreeMap<Name, Arc<Known>>;

impl Breakers {
    pub(crate) fn new() -> Self {
        Self { buckets: Box::new(array::from_fn(|_| ArcSwapOption::empty())) }
    }

    /// The breaker of this name, made if there is none.
    pub(crate) fn get_or_insert(&self, name: &Name, make: impl Fn() -> Known) -> Arc<Known> {
        let Some(bucket) = self.buckets.get(place(name)) else { return Arc::new(make()) };
        loop {
            let all = bucket.load_full();
            if let Some(known) = all.as_ref().and_then(|all| all.get(name)) {
                return Arc::clone(known);
            }
            let mut more = all.as_deref().cloned().unwrap_or_default();
            more.insert(name.clone(), Arc::new(make()));
            bucket.compare_and_swap(&all, Some(Arc::new(more)));
        }
    }

    /// Any of them.
    pub(crate) fn any(&self) -> Option<Arc<Known>> {
        self.buckets.iter().find_map(|bucket| bucket.load().as_ref()?.values().next().cloned())
    }
}

fn place(name: &Name) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    usize::try_from(hasher.finish() % BUCKETS as u64).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_one_breaker_whoever_adds_it() {
        let breakers = Breakers::new();
        assert!(breakers.any().is_none());
        let names: Vec<Name> = (0..5000).map(|i| Name::parse(&format!("b{i}")).unwrap()).collect();
        let all = || -> Vec<Arc<Known>> {
            names.iter().map(|name| breakers.get_or_insert(name, || Known::new(name.clone(), None, None))).collect()
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(all);
            (all(), other.join().unwrap())
        });
        for ((name, one), other) in names.iter().zip(&one).zip(&other) {
            assert!(Arc::ptr_eq(one, other) && one.name == *name, "{name}");
        }
        assert!(breakers.any().is_some());
    }
}
