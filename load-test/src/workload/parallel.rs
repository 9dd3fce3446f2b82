use rayon::prelude::*;

/// `make(0)` to `make(count - 1)`, on all cores; in order, so that the number of cores does not change the result.
///
/// # Errors
///
/// The error with the lowest index, as if the calls had been made one after the other.
pub(super) fn in_order<T: Send, E: Send>(
    count: usize,
    make: impl Fn(usize) -> Result<T, E> + Sync + Send,
) -> Result<Vec<T>, E> {
    let results: Vec<Result<T, E>> = (0..count).into_par_iter().map(make).collect();
    results.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(run)
    }

    #[test]
    fn the_number_of_threads_does_not_change_the_result() {
        for count in [0, 1, 2, 7, 100] {
            let expected: Vec<_> = (0..count).collect();
            for threads in [1, 2, 3, 16] {
                let made = on_threads(threads, || in_order(count, Ok::<_, ()>));
                assert_eq!(made, Ok(expected.clone()));
            }
        }
    }

    #[test]
    fn the_first_error_is_returned() {
        let odd = |index| if index % 2 == 1 { Err(index) } else { Ok(index) };
        for threads in [1, 3] {
            assert_eq!(on_threads(threads, || in_order(100, odd)), Err(1));
        }
    }
}
