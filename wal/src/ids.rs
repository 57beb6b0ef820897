//! Ids and positions, each a type of its own so that none can stand in for another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a raw number.
            #[must_use]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// Log sequence number: a position, in bytes, in the stream of log payload.
    ///
    /// It never wraps and is never reused (invariant W4). It is not a file offset. `Lsn(0)` means
    /// "none": the first epoch of a database starts above it.
    Lsn
}
id! {
    /// Number of a page in the `pages` file; its byte offset is `id * page_bytes`.
    PageId
}
id! {
    /// Id of a tree; never given out twice in the life of a database. 0 is the catalogue.
    TreeId
}
id! {
    /// Id of a transaction; never given out twice in the life of a database. 0 means "none".
    TxnId
}
id! {
    /// Number of a writable open of a database; each starts a new one (W4).
    Epoch
}
id! {
    /// Random number drawn for each epoch; keeps copies of one database from mixing their logs.
    EpochNonce
}

impl Lsn {
    /// No position.
    pub const NONE: Self = Self(0);
    /// Above every position.
    pub const MAX: Self = Self(u64::MAX);

    /// The position `bytes` further on.
    ///
    /// # Panics
    /// When the position would wrap: 2^64 bytes of log, which no machine writes.
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        match self.0.checked_add(bytes) {
            Some(lsn) => Self(lsn),
            None => panic!("log sequence number wraps"),
        }
    }

    /// Bytes from `earlier` to here.
    ///
    /// # Panics
    /// When `earlier` lies beyond this position.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        match self.0.checked_sub(earlier.0) {
            Some(bytes) => bytes,
            None => panic!("distance to a later log position"),
        }
    }

    /// Whether this is no position.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl PageId {
    /// No page. Page 0 is the first bitmap page, which no page ever refers to as child or sibling.
    pub const NONE: Self = Self(0);

    /// Whether this is no page.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl TreeId {
    /// The catalogue.
    pub const CATALOGUE: Self = Self(0);
}

impl TxnId {
    /// No transaction.
    pub const NONE: Self = Self(0);

    /// Whether this is no transaction.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Random identity of a database, drawn when it is created and stored in `control`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId([u8; 16]);

impl DatabaseId {
    /// Wraps the stored bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The stored bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Seed for the checksums of this database's pages and doublewrite slots.
    #[must_use]
    pub fn checksum_seed(&self) -> u32 {
        crc32c::crc32c(&self.0)
    }

    /// What the headers of an epoch's frames and segments carry, so that a restored copy and its
    /// original never accept each other's log.
    #[must_use]
    pub fn log_identity(&self, nonce: EpochNonce) -> u64 {
        let low = crc32c::crc32c_append(crc32c::crc32c(&self.0), &nonce.get().to_le_bytes());
        let high = crc32c::crc32c_append(crc32c::crc32c(&nonce.get().to_le_bytes()), &self.0);
        u64::from(low) | u64::from(high) << 32
    }
}

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseId({self})")
    }
}
