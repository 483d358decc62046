//! The set of watched ports, as a bitmap over all 65,536: exact, and one load to test.

/// How many ports may be watched at once.
pub const MAX_PORTS: usize = 64;

/// Length of the bitmap in 64-bit words.
pub const PORT_WORDS: usize = 1024;

/// A set of at most [`MAX_PORTS`] TCP ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet {
    words: [u64; PORT_WORDS],
}

/// More than [`MAX_PORTS`] distinct ports were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyPorts;

impl PortSet {
    /// Builds the set; repeated ports count once.
    ///
    /// # Errors
    /// [`TooManyPorts`] beyond [`MAX_PORTS`] distinct ports.
    pub fn new(ports: &[u16]) -> Result<Self, TooManyPorts> {
        let mut words = [0; PORT_WORDS];
        let mut distinct = 0;
        for &port in ports {
            let word = &mut words[word_of(port)];
            if *word & bit_of(port) == 0 {
                distinct += 1;
            }
            *word |= bit_of(port);
        }
        if distinct > MAX_PORTS {
            return Err(TooManyPorts);
        }
        Ok(Self { words })
    }

    /// The bitmap as the kernel side reads it.
    #[must_use]
    pub const fn words(&self) -> &[u64; PORT_WORDS] {
        &self.words
    }
}

/// The word that holds `port`'s bit; always below [`PORT_WORDS`].
#[must_use]
#[inline(always)]
pub const fn word_of(port: u16) -> usize {
    (port >> 6) as usize
}

/// `port`'s bit within its word.
#[must_use]
#[inline(always)]
pub const fn bit_of(port: u16) -> u64 {
    1 << (port & 63)
}
