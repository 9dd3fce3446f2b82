use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use super::{PublishError, batch_group::BatchGroup};

/// One line for each batch group, written before its batches are sent.
pub const PUBLISHED_FILE: &str = "published.jsonl";

/// `published.jsonl`; without a results directory nothing is written.
#[derive(Debug)]
pub(super) struct PublicationLog(Option<(PathBuf, File)>);

impl PublicationLog {
    /// Continues the directory's log, or creates it. The file stays locked for this process until the log is dropped.
    pub(super) fn open(directory: Option<&Path>) -> Result<Self, PublishError> {
        let Some(directory) = directory else {
            return Ok(Self(None));
        };
        let path = directory.join(PUBLISHED_FILE);
        match whole_lines(&path) {
            Ok(file) => Ok(Self(Some((path, file)))),
            Err(source) => Err(PublishError::File { path, source }),
        }
    }

    pub(super) fn append(&mut self, group: &BatchGroup) -> Result<(), PublishError> {
        let Some((path, file)) = &mut self.0 else {
            return Ok(());
        };
        let line = serde_json::to_string(group).map_err(io::Error::from);
        line.and_then(|line| file.write_all(format!("{line}\n").as_bytes()))
            .map_err(|source| PublishError::File {
                path: path.clone(),
                source,
            })
    }
}

/// Opens the file and removes the incomplete last line that a killed process may have left.
fn whole_lines(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(path)?;
    let mut text = Vec::new();
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another process publishes this run"),
        TryLockError::Error(error) => error,
    })?;
    file.read_to_end(&mut text)?;
    let whole = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |last| last + 1);
    file.set_len(whole as u64)?;
    Ok(file)
}

/// The complete lines of a file; an incomplete last line, which a killed process may have left, is ignored. A missing file has
/// no lines.
pub(super) fn lines<T>(
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<T, serde_json::Error>,
) -> Result<Vec<T>, PublishError> {
    let failed = |source| PublishError::File {
        path: path.to_owned(),
        source,
    };
    let mut reader = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    // Bytes, because an incomplete line may end within a character.
    let (mut lines, mut text) = (Vec::new(), Vec::new());
    while reader.read_until(b'\n', &mut text).map_err(failed)? > 0 && text.ends_with(b"\n") {
        let line = parse(&text).map_err(|source| PublishError::Line {
            path: path.to_owned(),
            line: lines.len() + 1,
            source,
        })?;
        lines.push(line);
        text.clear();
    }
    Ok(lines)
}
