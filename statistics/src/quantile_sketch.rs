//! Quantiles with a bounded relative error from counts in buckets.
//!
//! The idea is DDSketch's (C. Masson, J. E. Rim, H. K. Lee, PVLDB 12(12), 2019): buckets whose width is
//! proportional to their values, and integer counts, so that merging is addition and thus exact. The buckets
//! are those of HdrHistogram: every octave is cut into [`BUCKETS_PER_OCTAVE`] buckets of equal width. Their index
//! is read from the bits of the double, which gives the same buckets on every platform (a logarithm would not).

use std::fmt;

const BUCKET_BITS: u32 = 6;
const BUCKETS_PER_OCTAVE: i32 = 1 << BUCKET_BITS;
const SLOT_MASK: i32 = BUCKETS_PER_OCTAVE - 1;

/// Octaves from the smallest subnormal, 2^-1074, to the largest double, below 2^1024.
const OCTAVES: i32 = 2098;
/// The first octave of normal numbers; below it, the octave of `m · 2^-1074` is the position of m's highest bit.
const FIRST_NORMAL_OCTAVE: u32 = 52;
/// Bits of a double's fraction that do not choose the bucket.
const BITS_WITHIN_BUCKET: u32 = 52 - BUCKET_BITS;

/// Index of a bucket of non-zero values, ascending with the values: negative indexes hold negative values, and
/// `!index` mirrors a bucket at zero. `index >> 6` is the signed octave.
pub(crate) type BucketIndex = i32;

/// The valid indexes.
pub(crate) const BUCKET_INDEXES: std::ops::Range<BucketIndex> =
    -OCTAVES * BUCKETS_PER_OCTAVE..OCTAVES * BUCKETS_PER_OCTAVE;

/// Counts of the values of one octave and sign.
type Octave = [u64; 1 << BUCKET_BITS];

/// A multiset of doubles, known to within 1/128 of each value.
///
/// Memory: 512 bytes for every octave with values and 8 for every octave between the lowest and the highest of
/// them. Values between 50 ms and 10 s take 5 KB; the worst case, values in every octave of both signs, 2.2 MB.
/// Equal multisets have equal sketches whatever their history, because octaves appear only with values in them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct QuantileSketch {
    zeros: u64,
    first_octave: i32,
    octaves: Vec<Option<Box<Octave>>>,
}

impl QuantileSketch {
    pub(crate) const EMPTY: Self = Self {
        zeros: 0,
        first_octave: 0,
        octaves: Vec::new(),
    };

    /// Counts values that are all finite.
    pub(crate) fn add_finite(&mut self, values: &[f64]) {
        for &value in values {
            self.add(bucket_of(value), 1);
        }
    }

    /// Counts values of a bucket in [`BUCKET_INDEXES`]; `None` is the bucket of zero.
    #[inline]
    pub(crate) fn add(&mut self, bucket: Option<BucketIndex>, count: u64) {
        match bucket {
            Some(bucket) => self.add_to_bucket(bucket, count),
            None => self.zeros += count,
        }
    }

    #[inline]
    fn add_to_bucket(&mut self, bucket: BucketIndex, count: u64) {
        let octave = bucket >> BUCKET_BITS;
        let slot = (bucket & SLOT_MASK).unsigned_abs() as usize;
        let known = usize::try_from(octave - self.first_octave)
            .ok()
            .and_then(|index| self.octaves.get_mut(index))
            .and_then(Option::as_mut);
        match known {
            Some(counts) => counts[slot] += count,
            None => self.open_octave(octave)[slot] += count,
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (octave, added) in (other.first_octave..).zip(&other.octaves) {
            let Some(added) = added else { continue };
            for (count, added) in self.open_octave(octave).iter_mut().zip(added.iter()) {
                *count += added;
            }
        }
    }

    /// The counts of an octave, which must be about to receive values.
    fn open_octave(&mut self, octave: i32) -> &mut Octave {
        if self.octaves.is_empty() {
            self.first_octave = octave;
        }
        let missing_below = usize::try_from(self.first_octave - octave).unwrap_or(0);
        if missing_below > 0 {
            self.octaves
                .splice(0..0, std::iter::repeat_n(None, missing_below));
            self.first_octave = octave;
        }
        let index = octave.abs_diff(self.first_octave) as usize;
        if index >= self.octaves.len() {
            self.octaves.resize(index + 1, None);
        }
        self.octaves[index].get_or_insert_with(|| Box::new([0; 1 << BUCKET_BITS]))
    }

    /// The buckets with values, ascending, each with its count; `None` is the bucket of zero.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (Option<BucketIndex>, u64)> {
        let all = (self.first_octave..)
            .zip(&self.octaves)
            .flat_map(|(octave, counts)| {
                let first = octave << BUCKET_BITS;
                counts
                    .iter()
                    .flat_map(move |counts| (first..).zip(counts.iter().copied()))
            });
        let negative = all.clone().take_while(|&(bucket, _)| bucket < 0);
        let positive = all.skip_while(|&(bucket, _)| bucket < 0);
        let some = |(bucket, count)| (Some(bucket), count);
        negative
            .map(some)
            .chain(std::iter::once((None, self.zeros)))
            .chain(positive.map(some))
            .filter(|&(_, count)| count > 0)
    }

    /// The middle of the bucket that holds the value of the given rank, counted from 1 at the smallest.
    pub(crate) fn value_at_rank(&self, rank: u64) -> Option<f64> {
        let mut seen = 0;
        self.buckets()
            .find(|&(_, count)| {
                seen += count;
                seen >= rank
            })
            .map(|(bucket, _)| bucket.map_or(0.0, middle_of))
    }
}

impl fmt::Debug for QuantileSketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let middles = self
            .buckets()
            .map(|(bucket, count)| (bucket.map_or(0.0, middle_of), count));
        f.debug_map().entries(middles).finish()
    }
}

/// The bucket of a finite value; `None` for zero of either sign.
#[inline]
pub(crate) fn bucket_of(value: f64) -> Option<BucketIndex> {
    let bits = value.to_bits();
    let magnitude = bits & !(1 << 63);
    let index = if value.is_normal() {
        (magnitude >> BITS_WITHIN_BUCKET) as i32 + ((FIRST_NORMAL_OCTAVE - 1) << BUCKET_BITS) as i32
    } else {
        let octave = magnitude.checked_ilog2()?;
        // The fraction below the highest bit, brought to the place that it has in a normal number.
        let fraction = magnitude << (52 - octave) & ((1 << 52) - 1);
        (octave << BUCKET_BITS) as i32 + (fraction >> BITS_WITHIN_BUCKET) as i32
    };
    Some(if bits >> 63 == 0 { index } else { !index })
}

/// The middle of a bucket. A bucket is at most 1/64 of its lower end wide, so the middle is within 1/128 of
/// every value in the bucket. Buckets of one value (small subnormals) return that value.
fn middle_of(bucket: BucketIndex) -> f64 {
    let magnitude = if bucket < 0 { !bucket } else { bucket }.unsigned_abs();
    let octave = magnitude >> BUCKET_BITS;
    let bits = if octave >= FIRST_NORMAL_OCTAVE {
        let lower = u64::from(magnitude - ((FIRST_NORMAL_OCTAVE - 1) << BUCKET_BITS)) << BITS_WITHIN_BUCKET;
        lower + (1 << (BITS_WITHIN_BUCKET - 1))
    } else {
        let slot = magnitude & SLOT_MASK.unsigned_abs();
        // In half buckets; the shift turns them into multiples of the smallest subnormal.
        let half_buckets = 2 * (BUCKETS_PER_OCTAVE.unsigned_abs() + slot) + 1;
        u64::from(half_buckets) << octave >> (BUCKET_BITS + 1)
    };
    let middle = f64::from_bits(bits);
    if bucket < 0 { -middle } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of buckets of every kind: few and many bits among the subnormals, normals, the largest.
    fn magnitudes() -> impl Iterator<Item = u64> {
        let around = |bits: u64| bits.saturating_sub(3)..=bits.saturating_add(3);
        let octaves = (0..63).map(|shift| 1 << shift);
        let buckets = [1, 500, 1023, 1024, 2046].map(|exponent: u64| exponent << 52);
        let buckets = buckets
            .into_iter()
            .flat_map(|octave| (0..64).map(move |slot| octave | slot << 46));
        octaves
            .chain(buckets)
            .chain([f64::MAX.to_bits()])
            .flat_map(around)
            .filter(|&bits| f64::from_bits(bits).is_finite() && bits != 0)
    }

    #[test]
    fn the_middle_is_in_its_bucket_and_within_a_128th_of_every_value() {
        for bits in magnitudes() {
            let value = f64::from_bits(bits);
            let bucket = bucket_of(value).unwrap();
            assert!(BUCKET_INDEXES.contains(&bucket));
            let middle = middle_of(bucket);
            assert_eq!(bucket_of(middle), Some(bucket), "{value:e}");
            // In units of the value's last bit, which makes the comparison exact for subnormals too.
            let error = middle.to_bits().abs_diff(bits);
            let allowed = if value.is_normal() { 1 << 45 } else { bits / 128 };
            assert!(error <= allowed, "{value:e} is taken for {middle:e}");
        }
    }

    #[test]
    fn buckets_ascend_with_the_values_and_mirror_at_zero() {
        let mut sorted: Vec<u64> = magnitudes().collect();
        sorted.sort_unstable();
        let buckets: Vec<_> = sorted
            .iter()
            .map(|&bits| bucket_of(f64::from_bits(bits)).unwrap())
            .collect();
        assert!(buckets.is_sorted());
        for (&bits, bucket) in sorted.iter().zip(buckets) {
            assert_eq!(bucket_of(-f64::from_bits(bits)), Some(!bucket));
            assert_eq!(middle_of(!bucket), -middle_of(bucket));
        }
    }

    #[test]
    fn the_range_of_indexes_is_that_of_doubles() {
        assert_eq!(bucket_of(f64::MAX), Some(BUCKET_INDEXES.end - 1));
        assert_eq!(bucket_of(f64::MIN), Some(BUCKET_INDEXES.start));
        assert_eq!(bucket_of(f64::from_bits(1)), Some(0));
        assert_eq!(bucket_of(-f64::from_bits(1)), Some(-1));
        assert_eq!(bucket_of(-0.0), None);
    }

    #[test]
    fn counts_are_listed_in_the_order_of_values() {
        let mut sketch = QuantileSketch::EMPTY;
        sketch.add_finite(&[1.0, -1e300, 0.0, -0.0, 1e-310, 1.0, -2.0, 5e300]);
        let middles: Vec<f64> = (1..=8).filter_map(|rank| sketch.value_at_rank(rank)).collect();
        assert!(middles.is_sorted(), "{middles:?}");
        assert_eq!(middles.len(), 8);
        assert_eq!(middles[2..4], [0.0, 0.0]);
        assert_eq!(sketch.value_at_rank(9), None);
        assert_eq!(sketch.buckets().count(), 6);
    }
}
