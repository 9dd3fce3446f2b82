use rand::Rng;
use rand_distr::{Distribution, UnitDisc};

/// Standard normal deviates by Marsaglia's polar method (Marsaglia and Bray, "A convenient method for generating
/// normal variables", SIAM Review 6, 1964), which gives two at a time.
///
/// Not `rand_distr::StandardNormal`: its tails call the platform's `exp` and `ln`, whose last bits differ between
/// platforms as soon as any crate of the build turns on `num-traits/std`.
#[derive(Debug, Default)]
pub(super) struct StandardNormal {
    second: Option<f64>,
}

impl StandardNormal {
    pub(super) fn draw(&mut self, rng: &mut impl Rng) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        loop {
            let [x, y]: [f64; 2] = UnitDisc.sample(rng);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * libm::log(square) / square).sqrt();
                self.second = Some(y * scale);
                return x * scale;
            }
        }
    }
}
