//! A file of JSON lines that always ends with a complete line.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
};

use serde::Serialize;

use super::JournalError;

/// A file of JSON lines. The lines of one [`append`](Self::append) are one write: whoever reads the file sees whole lines.
#[derive(Debug)]
pub(super) struct JsonlFile {
    path: PathBuf,
    file: File,
    /// Length of all complete lines, bytes.
    length: u64,
    buffer: Vec<u8>,
    failure: Option<(u64, io::Error)>,
}

impl JsonlFile {
    pub(super) fn create(path: PathBuf) -> Result<Self, JournalError> {
        match File::create(&path) {
            Ok(file) => Ok(Self::new(path, file)),
            Err(source) => Err(JournalError::Create { path, source }),
        }
    }

    fn new(path: PathBuf, file: File) -> Self {
        Self {
            path,
            file,
            length: 0,
            buffer: Vec::new(),
            failure: None,
        }
    }

    /// Writes the lines; after the first failure only counts them.
    pub(super) fn append(&mut self, lines: impl IntoIterator<Item = impl Serialize>) {
        self.buffer.clear();
        let mut count = 0;
        for line in lines {
            count += 1;
            if self.failure.is_none() {
                self.add_line(&line);
            }
        }
        if let Some((lost, _)) = &mut self.failure {
            *lost += count;
        } else if let Err(error) = self.file.write_all(&self.buffer) {
            // A full disk may have accepted half a line. Truncating frees space, so it cannot fail for lack of it.
            let error = self.file.set_len(self.length).err().unwrap_or(error);
            self.failure = Some((count, error));
        } else {
            self.length += self.buffer.len() as u64;
        }
    }

    fn add_line(&mut self, line: &impl Serialize) {
        #[expect(
            clippy::expect_used,
            reason = "our lines have text keys, and memory takes what is written"
        )]
        serde_json::to_writer(&mut self.buffer, line).expect("a line is JSON");
        self.buffer.push(b'\n');
    }

    /// Closes the file; returns its path where all lines were written.
    pub(super) fn finish(self) -> Result<PathBuf, JournalError> {
        match self.failure {
            None => Ok(self.path),
            Some((lost, source)) => Err(JournalError::Write {
                path: self.path,
                lost,
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_there_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines.jsonl");
        let mut file = JsonlFile::create(path.clone()).unwrap();
        file.append([1, 2]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n");
        file.append([3]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n");
        assert_eq!(file.finish().unwrap(), path);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_a_failure_that_says_how_much_is_missing() {
        let path = PathBuf::from("/dev/full");
        let file = File::options().write(true).open(&path).unwrap();
        let mut file = JsonlFile::new(path, file);
        file.append([1, 2]);
        file.append([3]);
        let error = file.finish().unwrap_err();
        assert!(matches!(error, JournalError::Write { lost: 3, .. }), "{error}");
    }
}
