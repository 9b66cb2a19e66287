//! The commands of docs/many-machines.md, so that what is checked is what users read.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::build;

/// The scripts that the document marks, each as it stands there.
#[derive(Debug)]
pub(crate) struct Document {
    /// Prints the digest of the source.
    pub(crate) digest: Script,
    pub(crate) send: Script,
    /// What a host must not trust.
    pub(crate) pipe: Script,
    /// What it may trust: copies have their names only if the digest is right.
    pub(crate) receive: Script,
    /// The same, by way of one file.
    pub(crate) stage: Script,
}

/// A script for bash; its argument is the digest.
#[derive(Debug, Clone)]
pub(crate) struct Script(pub(crate) String);

impl Document {
    pub(crate) fn read() -> Result<Self> {
        let path = build::workspace().join("docs/many-machines.md");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
        let script = |name| {
            script(&text, name).with_context(|| format!("{path:?} has no script <!-- {name} -->"))
        };
        Ok(Self {
            digest: script("digest")?,
            send: script("send")?,
            pipe: script("pipe")?,
            receive: script("receive")?,
            stage: script("stage")?,
        })
    }
}

/// The block for bash after a comment of this name.
fn script(text: &str, name: &str) -> Option<Script> {
    let (_, text) = text.split_once(&format!("<!-- {name} -->\n```bash\n"))?;
    let (script, _) = text.split_once("\n```")?;
    Some(Script(script.to_owned()))
}

impl Script {
    /// The script with another word in this place, which it must have.
    pub(crate) fn with(&self, old: &str, new: &str) -> Result<Self> {
        ensure!(self.0.contains(old), "the document no longer says {old:?}");
        Ok(Self(self.0.replace(old, new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_the_block_after_its_name() {
        let text = "<!-- a -->\n```bash\none\n```\n<!-- b -->\n```bash\ntwo |\n    three\n```\n";
        assert_eq!(script(text, "b").unwrap().0, "two |\n    three");
        assert!(script(text, "c").is_none());
    }

    #[test]
    fn the_document_has_every_script_that_is_checked() {
        Document::read().unwrap();
    }

    #[test]
    fn a_word_that_the_document_no_longer_says_is_an_error() {
        let script = Script("sharedmem 4".into());
        assert_eq!(script.with("sharedmem", "socket").unwrap().0, "socket 4");
        assert!(script.with("cp", "socket").is_err());
    }
}
