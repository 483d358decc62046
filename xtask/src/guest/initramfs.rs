//! The guest's file system: busybox, the tests, the kernel's modules they need, and an init that runs them.
//!
//! In: the programs and modules. Out: one initramfs, in the `newc` form of cpio that the kernel unpacks. Refused: programs
//! that need libraries, since there are none in it.
//!
//! Written here rather than by a cpio program because the kernel wants `/dev/console` in it before anything runs, and only
//! root can make that as a file for a program to pack. Not compressed: a guest would spend longer unpacking than reading.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::payload::Payload;
use crate::command;
use crate::setup;

const FOLDERS: [&str; 7] = ["bin", "dev", "modules", "proc", "root", "sys", "tmp"];
const INIT: &[u8] = include_bytes!("init.sh");

/// Writes the initramfs to `path`.
pub(super) fn write(path: &Path, payload: &Payload, modules: &[PathBuf]) -> Result<()> {
    let busybox = setup::busybox()?;
    let programs =
        [("bin/busybox", busybox.as_path()), ("amqptrace", &payload.amqptrace), ("e2e", &payload.tests)];
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut archive = Archive { out: BufWriter::new(file), entries: 0 };
    for folder in FOLDERS {
        archive.add(folder, Kind::Folder)?;
    }
    archive.add("dev/console", Kind::Console)?;
    archive.add("init", Kind::Program(INIT))?;
    for (name, program) in programs {
        if !command::is_static(program)? {
            bail!("{} is not static, and a guest has no libraries", program.display());
        }
        let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        archive.add(name, Kind::Program(&bytes))?;
    }
    // Their names say the order in which init loads them.
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
        archive.add(&format!("modules/{name}"), Kind::Data(&bytes))?;
    }
    archive.finish().with_context(|| format!("cannot write {}", path.display()))
}

enum Kind<'a> {
    Folder,
    Program(&'a [u8]),
    Data(&'a [u8]),
    /// The character device 5:1.
    Console,
    /// Whatever the name says; only the last entry is one.
    Trailer,
}

struct Archive<W> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, kind: Kind<'_>) -> Result<()> {
        let (mode, links, data, [major, minor]) = match kind {
            Kind::Folder => (0o040_755, 2, &[][..], [0, 0]),
            Kind::Program(bytes) => (0o100_755, 1, bytes, [0, 0]),
            Kind::Data(bytes) => (0o100_644, 1, bytes, [0, 0]),
            Kind::Console => (0o020_600, 1, &[][..], [5, 1]),
            Kind::Trailer => (0, 1, &[][..], [0, 0]),
        };
        self.entries += 1;
        let size =
            u32::try_from(data.len()).with_context(|| format!("{name} is too big for an initramfs"))?;
        let name_size =
            u32::try_from(name.len() + 1).with_context(|| format!("{name} is too long a name"))?;
        // Inode, mode, owner, group, links, time, size, device, device the node stands for, name's size, checksum.
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        let mut header = String::from("070701");
        fields.iter().for_each(|field| header.push_str(&format!("{field:08x}")));
        self.padded(&[header.as_bytes(), name.as_bytes(), b"\0"])?;
        self.padded(&[data])
    }

    /// Writes `parts` and zeros up to the next multiple of four.
    fn padded(&mut self, parts: &[&[u8]]) -> Result<()> {
        for part in parts {
            self.out.write_all(part)?;
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        Ok(self.out.write_all(&[0; 3][..length.next_multiple_of(4) - length])?)
    }

    fn finish(mut self) -> Result<()> {
        self.add("TRAILER!!!", Kind::Trailer)?;
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_starts_at_a_multiple_of_four_with_its_sizes() -> Result<()> {
        let mut bytes = Vec::new();
        let mut archive = Archive { out: &mut bytes, entries: 0 };
        archive.add("dev", Kind::Folder)?;
        archive.add("dev/console", Kind::Console)?;
        archive.add("init", Kind::Program(b"hello"))?;
        archive.finish()?;
        let text = String::from_utf8(bytes)?;
        let starts = text.match_indices("070701").map(|(at, _)| at % 4).collect::<Vec<_>>();
        assert_eq!(starts, [0; 4]);
        assert!(text.contains(
            &format!("{:08x}{:08x}{:08x}{:08x}console", 5, 1, 12, 0).replace("console", "dev/console\0")
        ));
        assert!(text.contains("init\0\0hello\0\0\0"));
        assert_eq!(text.len() % 4, 0);
        Ok(())
    }

    #[test]
    fn a_program_with_a_loader_is_told_from_one_without() -> Result<()> {
        // The test itself is linked with libraries.
        assert!(!command::is_static(&std::env::current_exe()?)?);
        Ok(())
    }
}
