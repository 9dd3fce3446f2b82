use crate::record::Class;

/// How many requests ended in which class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassCounts([u64; Class::ALL.len()]);

impl ClassCounts {
    /// How many requests ended in `class`.
    #[must_use]
    pub fn of(&self, class: Class) -> u64 {
        self.0[class as usize]
    }

    /// How many requests ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn count(&mut self, class: Class, n: u64) {
        self.0[class as usize] += n;
    }
}
