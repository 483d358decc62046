//! Where lines go. A sink takes whole lines only, so a reader never finds half of one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Stdout, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    str::FromStr,
};

use anyhow::Context as _;

/// A sink as named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `stdout`.
    Stdout,
    /// `file:PATH`: appended to, created with mode 0640.
    File(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "stdout" => Ok(Self::Stdout),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            _ => Err("allowed: stdout, file:PATH".to_owned()),
        }
    }
}

/// An open sink.
pub enum Sink {
    /// Standard output.
    Stdout(Stdout),
    /// A file, with its path for error messages.
    File(File, PathBuf),
}

impl Sink {
    /// Opens the sink; nothing is written yet.
    pub fn open(target: &Target) -> anyhow::Result<Self> {
        match target {
            Target::Stdout => Ok(Self::Stdout(io::stdout())),
            Target::File(path) => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o640)
                    .open(path)
                    .with_context(|| format!("cannot open the output file {}", path.display()))?;
                Ok(Self::File(file, path.clone()))
            }
        }
    }

    /// Writes whole lines and hands them to the system at once.
    pub fn write(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout(out) => {
                out.write_all(lines).and_then(|()| out.flush()).context("cannot write to standard output")
            }
            Self::File(file, path) => {
                file.write_all(lines).with_context(|| format!("cannot write to {}", path.display()))
            }
        }
    }
}
