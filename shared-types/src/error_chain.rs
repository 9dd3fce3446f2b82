use std::{error::Error, fmt};

/// Shows an error and its causes in one line, such as `could not connect: connection refused`.
///
/// Some libraries put the text of the cause into the text of the error. A text that the line contains already is not
/// shown again.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a dyn Error);

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        f.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    fn shown(texts: [&'static str; 3]) -> String {
        let error = texts
            .into_iter()
            .rev()
            .fold(None, |cause, text| Some(Box::new(Layer(text, cause))));
        ErrorChain(error.unwrap().as_ref()).to_string()
    }

    #[test]
    fn every_cause_is_shown_once() {
        assert_eq!(
            shown(["not stored", "no connection", "refused"]),
            "not stored: no connection: refused"
        );
        assert_eq!(
            shown(["not stored: refused", "refused", "port 1"]),
            "not stored: refused: port 1"
        );
    }
}
