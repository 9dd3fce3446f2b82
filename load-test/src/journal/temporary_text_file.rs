//! Answers that are needed after the run, kept on disk.

use std::{fs::File, io, num::NonZeroUsize, os::unix::fs::FileExt, path::Path};

use rayon::prelude::*;

use super::JournalError;

/// Answers in an unnamed temporary file, which the system removes with the process however that ends.
#[derive(Debug)]
pub struct TemporaryTextFile {
    file: File,
    length: u64,
    entries: Vec<Entry>,
    failure: Option<(u64, io::Error)>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    index: u64,
    offset: u64,
    length: u32,
}

impl TemporaryTextFile {
    /// A file in `directory`, which may be deleted meanwhile.
    pub(super) fn create(directory: &Path) -> Result<Self, JournalError> {
        match tempfile::tempfile_in(directory) {
            Ok(file) => Ok(Self::new(file)),
            Err(source) => Err(JournalError::Create {
                path: directory.to_owned(),
                source,
            }),
        }
    }

    fn new(file: File) -> Self {
        Self {
            file,
            length: 0,
            entries: Vec::new(),
            failure: None,
        }
    }

    /// Adds the answers of requests; after the first failure it counts them only.
    pub(super) fn append<'a>(&mut self, texts: impl IntoIterator<Item = (u64, &'a str)>) {
        let mut bytes = Vec::new();
        let before = self.entries.len();
        for (index, text) in texts {
            self.entries.push(Entry {
                index,
                offset: self.length + bytes.len() as u64,
                length: u32::try_from(text.len()).unwrap_or(u32::MAX),
            });
            bytes.extend_from_slice(text.as_bytes());
        }
        let written = match &self.failure {
            Some(_) => Ok(()),
            None => self.file.write_all_at(&bytes, self.length),
        };
        if let Err(error) = written {
            self.failure = Some((0, error));
        }
        match &mut self.failure {
            None => self.length += bytes.len() as u64,
            Some((lost, _)) => {
                *lost += (self.entries.len() - before) as u64;
                self.entries.truncate(before);
            }
        }
    }

    /// The failure to keep texts, where there was one.
    pub(super) fn take_failure(&mut self) -> Option<JournalError> {
        let (lost, source) = self.failure.take()?;
        Some(JournalError::KeepText { lost, source })
    }

    /// Answers that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The answers with the indices of their requests, one in memory at a time.
    pub fn texts(&self) -> impl Iterator<Item = Result<(u64, String), JournalError>> + '_ {
        self.entries
            .iter()
            .map(|entry| Ok((entry.index, self.read(entry)?)))
    }

    /// Applies `count` to every answer, on `threads` threads. The results are in no order; answers without a count are left out.
    ///
    /// # Errors
    ///
    /// Where an answer cannot be read again.
    pub(super) fn count(
        &self,
        count: &(impl Fn(&str) -> Option<u32> + Sync),
        threads: NonZeroUsize,
    ) -> Result<Vec<(u64, u32)>, JournalError> {
        let count_one = |entry: &Entry| Ok((entry.index, count(&self.read(entry)?)));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build()
            .map_err(|error| JournalError::CountingThreads(io::Error::other(error)))?;
        let counted: Result<Vec<_>, _> = pool.install(|| self.entries.par_iter().map(count_one).collect());
        let counted = counted?.into_iter();
        Ok(counted
            .filter_map(|(index, tokens)| Some((index, tokens?)))
            .collect())
    }

    fn read(&self, entry: &Entry) -> Result<String, JournalError> {
        let mut bytes = vec![0; entry.length as usize];
        self.file
            .read_exact_at(&mut bytes, entry.offset)
            .and_then(|()| {
                String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            })
            .map_err(|source| JournalError::ReadBack {
                index: entry.index,
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> TemporaryTextFile {
        TemporaryTextFile::create(&std::env::temp_dir()).unwrap()
    }

    #[test]
    fn every_text_is_counted_once_on_any_number_of_threads() {
        let texts: Vec<_> = (0..1_000_u64)
            .map(|index| (index, "wörter ".repeat(usize::try_from(index % 7).unwrap())))
            .collect();
        let mut file = file();
        for portion in texts.chunks(13) {
            file.append(portion.iter().map(|(index, text)| (*index, text.as_str())));
        }
        let words = |text: &str| u32::try_from(text.split_whitespace().count()).unwrap();
        let expected: Vec<_> = texts.iter().map(|(index, text)| (*index, words(text))).collect();
        for threads in [1, 3] {
            let mut counted = file
                .count(&|text| Some(words(text)), NonZeroUsize::new(threads).unwrap())
                .unwrap();
            counted.sort_unstable();
            assert_eq!(counted, expected);
        }
        let read: Vec<_> = file.texts().map(Result::unwrap).collect();
        assert_eq!(read, texts);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_loses_answers_and_says_so() {
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut file = TemporaryTextFile::new(full);
        file.append([(0, "a"), (1, "b")]);
        file.append([(2, "c")]);
        assert!(file.is_empty());
        let failure = file.take_failure().unwrap();
        assert!(
            matches!(failure, JournalError::KeepText { lost: 3, .. }),
            "{failure}"
        );
    }

    #[test]
    fn a_text_that_is_gone_is_an_error() {
        let mut file = file();
        file.append([(7, "text")]);
        file.file.set_len(0).unwrap();
        let error = file.count(&|_| Some(0), NonZeroUsize::MIN).unwrap_err();
        assert!(
            matches!(error, JournalError::ReadBack { index: 7, .. }),
            "{error}"
        );
    }
}
