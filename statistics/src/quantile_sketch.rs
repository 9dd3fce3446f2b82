//! Quantiles with a bounded relative error from counts in buckets.
//!
//! The idea is DDSketch's (C. Masson, J. E. Rim, H. K. Lee, PVLDB 12(12), 2019): buckets whose width is
//! proportional to their values, and integer counts, so that merging is addition and thus exact. The buckets
//! are those of HdrHistogram: every octave is cut into [`BUCKETS_PER_OCTAVE`] buckets of equal width. Their index
//! is read from the bits of the double, which gives the same buckets on every platform (a logarithm would not).

const BUCKET_BITS: u32 = 6;
const BUCKETS_PER_OCTAVE: usize = 1 << BUCKET_BITS;
const SLOT_MASK: i32 = BUCKETS_PER_OCTAVE as i32 - 1;

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
    -OCTAVES * BUCKETS_PER_OCTAVE as i32..OCTAVES * BUCKETS_PER_OCTAVE as i32;

/// Counts of the values of one octave and sign.
type Octave = [u64; BUCKETS_PER_OCTAVE];

/// A multiset of doubles, known to within 1/128 of each value.
///
/// Memory: 512 bytes for every octave with values and 8 for every octave between the lowest and the highest of
/// them. Values between 50 ms and 10 s take 4 KiB; the worst case, values in every octave of both signs, 2.2 MB.
/// Equal multisets have equal sketches whatever their history, because octaves appear only with values in them.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    #[inline]
    /// Counts values of a bucket in `BUCKET_INDEXES`; `None` is the bucket of zero.
    pub(crate) fn add(&mut self, bucket: Option<BucketIndex>, count: u64) {
        match bucket {
            Some(bucket) => self.add_to_bucket(bucket, count),
            None => self.zeros += count,
        }
    }

    #[inline]
    fn add_to_bucket(&mut self, bucket: BucketIndex, count: u64) {
        let octave = bucket >> BUCKET_BITS;
        let slot = (bucket & SLOT_MASK) as usize;
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
        self.octaves[index].get_or_insert_with(|| Box::new([0; BUCKETS_PER_OCTAVE]))
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
        let slot = u64::from(magnitude) & SLOT_MASK as u64;
        // The position in units of half a bucket, shifted down to the smallest subnormal.
        let half_buckets = 2 * (BUCKETS_PER_OCTAVE as u64 + slot) + 1;
        half_buckets << octave >> (BUCKET_BITS + 1)
    };
    let middle = f64::from_bits(bits);
    if bucket < 0 { -middle } else { middle }
}
