//! A secret and where it comes from.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

/// A secret, given inline or by a file. It has no `Display`, and its `Debug` shows no character of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// The key of the configuration that gives it, for errors.
    pub key: &'static str,
    /// What that key gives.
    pub source: SecretSource,
}

/// A secret itself, or its file.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// Given in the configuration or an environment variable.
    Inline(SecretString),
    /// Read from a file for each poll, so that a rotated secret is used at once.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether it was given from the root on. Else it may be that the secret itself was given.
        is_absolute: bool,
    },
}

impl Secret {
    /// Takes a secret that was given inline.
    ///
    /// # Errors
    /// As [`Secret::parse`].
    pub fn inline(key: &'static str, text: &str) -> Result<Self, &'static str> {
        Ok(Self { key, source: SecretSource::Inline(Self::parse(text)?) })
    }

    /// Takes what a header, or the key of a signature, can be made of, without what editors leave around it: a byte order
    /// mark, blanks and line ends.
    ///
    /// # Errors
    /// Says what is wrong with it, without a character of it.
    pub fn parse(text: &str) -> Result<SecretString, &'static str> {
        match text.trim_start_matches('\u{FEFF}').trim() {
            "" => Err("is empty"),
            text if text.contains(char::is_control) => Err("has a line break or another control character inside"),
            text => Ok(SecretString::from(text)),
        }
    }

    /// The path of its file for people. One that leads nowhere may be the secret itself, which is not repeated: it is
    /// shown where it was given from the root on, below a folder that exists.
    #[must_use]
    pub fn shown_path(&self) -> Option<String> {
        let SecretSource::File { path, is_absolute } = &self.source else { return None };
        let first_folder = path.components().nth(1).map(|name| Path::new("/").join(name));
        let is_path =
            *is_absolute && path.components().count() > 2 && first_folder.is_some_and(|folder| folder.is_dir());
        Some(match path.parent() {
            _ if is_path || path.exists() => path.display().to_string(),
            Some(folder) if folder.exists() => format!("a file in {}", folder.display()),
            _ => "the file".to_owned(),
        })
    }
}

impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(a), Self::Inline(b)) => a.expose_secret() == b.expose_secret(),
            (Self::File { path: a, .. }, Self::File { path: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl Eq for SecretSource {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_leave_around_a_secret_is_dropped_and_nothing_else() {
        for (text, secret) in
            [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), (" a bc ", "a bc"), ("\u{FEFF}abc \t\n\n", "abc")]
        {
            assert_eq!(Secret::parse(text).unwrap().expose_secret(), secret);
        }
        for none in ["", "\n", " ", "\u{FEFF}", "hunter2\nhunter2", "hunter2\thunter2"] {
            let error = Secret::parse(none).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_an_inline_secret() {
        let secret = Secret::inline("k", "hunter2").unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn secrets_are_equal_where_they_come_from_one_place() {
        let at = |path: &str| Secret { key: "k", source: SecretSource::File { path: path.into(), is_absolute: false } };
        let (inline, file) = (Secret::inline("k", "a").unwrap(), at("a"));
        assert_eq!(inline, Secret::inline("k", "a").unwrap());
        assert_eq!(file, file.clone());
        assert_ne!(inline, file);
        assert_ne!(inline, Secret::inline("k", "b").unwrap());
        assert_ne!(file, at("b"));
    }
}
