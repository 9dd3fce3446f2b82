/// `println!` for commands: a reader that closes the pipe (`| head`) is not a failure.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::say::line(format_args!($($text)*))
    };
}
pub(crate) use say;

/// Writes a line to standard output; exits with 0 if the reader has closed the pipe.
pub(crate) fn line(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        std::process::exit(i32::from(error.kind() != std::io::ErrorKind::BrokenPipe));
    }
}
