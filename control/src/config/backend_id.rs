//! How a backend is named outside its pool: `pool/backend`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Config;

/// A backend by the names of its pool and its own. Written `pool/backend`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BackendId {
    /// The pool's name.
    pub pool: String,
    /// The backend's name in it.
    pub name: String,
}

impl BackendId {
    /// From both names.
    pub fn new(pool: &str, name: &str) -> Self {
        Self { pool: pool.to_owned(), name: name.to_owned() }
    }

    /// Finds the backend a person means: `pool/backend`, or the name alone where
    /// only one pool has it.
    pub fn find(config: &Config, text: &str) -> Result<Self, BackendIdError> {
        let all: Vec<Self> = config
            .backends()
            .map(|(id, ..)| id)
            .filter(|id| id.name == text || id.to_string() == text)
            .collect();
        match <[Self; 1]>::try_from(all) {
            Ok([one]) => Ok(one),
            Err(none) if none.is_empty() => Err(BackendIdError::Unknown(text.to_owned())),
            Err(several) => Err(BackendIdError::Ambiguous {
                text: text.to_owned(),
                candidates: several.iter().map(Self::to_string).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.name)
    }
}

impl From<BackendId> for String {
    fn from(id: BackendId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for BackendId {
    type Error = BackendIdError;

    fn try_from(text: String) -> Result<Self, BackendIdError> {
        text.parse()
    }
}

impl FromStr for BackendId {
    type Err = BackendIdError;

    fn from_str(text: &str) -> Result<Self, BackendIdError> {
        match text.split_once('/') {
            Some((pool, name)) if !pool.is_empty() && !name.is_empty() => Ok(Self::new(pool, name)),
            _ => Err(BackendIdError::NotAnId(text.to_owned())),
        }
    }
}

/// Why a text names no backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendIdError {
    /// Not of the form `pool/backend`.
    #[error("`{0}` is not of the form pool/backend")]
    NotAnId(String),
    /// No such backend.
    #[error("there is no backend `{0}`")]
    Unknown(String),
    /// Several pools have a backend of this name.
    #[error("`{text}` is the name of several backends: {candidates}")]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// Those it could mean.
        candidates: String,
    },
}
