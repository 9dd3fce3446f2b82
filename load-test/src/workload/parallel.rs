use std::{num::NonZeroUsize, thread};

/// `make(0)` to `make(count - 1)`, on all cores; in order, so that their number shows nowhere in the result.
///
/// # Errors
///
/// The error of the first that has one, as if they had been made one by one.
pub(super) fn in_order<T: Send, E: Send>(
    count: usize,
    make: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    in_order_on(threads, count, make)
}

pub(super) fn in_order_on<T: Send, E: Send>(
    threads: usize,
    count: usize,
    make: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let share = count.div_ceil(threads).max(1);
    let make = &make;
    thread::scope(|scope| {
        let starts = (0..count).step_by(share);
        let shares: Vec<_> = starts
            .map(|start| scope.spawn(move || (start..count.min(start + share)).map(make).collect()))
            .collect();
        let mut made = Vec::with_capacity(count);
        for share in shares {
            let share: Result<Vec<T>, E> = share
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            made.extend(share?);
        }
        Ok(made)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_shows_nowhere() {
        for count in [0, 1, 2, 7, 100] {
            let expected: Vec<_> = (0..count).collect();
            for threads in [1, 2, 3, 16] {
                assert_eq!(in_order_on(threads, count, Ok::<_, ()>), Ok(expected.clone()));
            }
        }
    }

    #[test]
    fn the_first_error_is_told() {
        let odd = |index| if index % 2 == 1 { Err(index) } else { Ok(index) };
        for threads in [1, 3] {
            assert_eq!(in_order_on(threads, 100, odd), Err(1));
        }
    }
}
