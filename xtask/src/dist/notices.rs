//! The licences of all that is in the programs and was written elsewhere, which want to go with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::command::output;
use super::release::Release;
use crate::build;

/// Where Debian and its like have the licence of the C library.
const LGPL: &str = "/usr/share/common-licenses/LGPL-2.1";

/// Beginnings of the names of files with a licence, or with what a licence wants to be passed on.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "UNLICENSE", "NOTICE"];

/// What `cargo metadata` says, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// None for packages of the workspace.
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Deserialize)]
struct DependencyKind {
    /// None for what goes into programs.
    kind: Option<String>,
}

/// All notices: each licence once, under the names of those who use it.
pub(crate) fn text(release: &Release) -> Result<String> {
    let metadata = output(
        build::cargo()
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform"])
            .arg(&release.target),
    )?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata.in_programs()? {
        let Package { name, version, license, .. } = package;
        let license = license.as_deref().unwrap_or("see below");
        texts.entry(package.licence()?).or_default().push(format!("{name} {version} ({license})"));
    }
    let said = output(Command::new("ldd").arg("--version").env("LC_ALL", "C"))?;
    let libc = said.lines().next().unwrap_or_default().trim_start_matches("ldd ");
    let lgpl = fs::read_to_string(LGPL).with_context(|| format!("cannot read {LGPL}"))?;
    texts.entry(lgpl).or_default().push(format!(
        "the C library, {libc}, whose source its distributor has; in the tarball's programs only"
    ));
    let mut sections: Vec<_> =
        texts.into_iter().map(|(text, users)| (users.join("\n"), text)).collect();
    sections.sort();
    let sections =
        sections.iter().map(|(users, text)| format!("{LINE}\n{users}\n\n{}\n", text.trim_end()));
    Ok([INTRODUCTION.to_owned()].into_iter().chain(sections).collect())
}

const INTRODUCTION: &str = "\
What is in the programs beside the code of ipc-cli and Rust's standard library,
which are under the MIT or the Apache 2.0 licence, as you like.

";

const LINE: &str = "------------------------------------------------------------------------";

impl Metadata {
    /// The packages from elsewhere whose code goes into the programs.
    fn in_programs(&self) -> Result<Vec<&Package>> {
        let packages: BTreeMap<_, _> = self.packages.iter().map(|it| (&it.id, it)).collect();
        let nodes: BTreeMap<_, _> = self.resolve.nodes.iter().map(|it| (&it.id, it)).collect();
        let own = self.packages.iter().find(|it| it.name == Release::PACKAGE);
        let mut left = vec![&own.context("cargo does not know the package")?.id];
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        while let Some(id) = left.pop() {
            let package = packages.get(id).with_context(|| format!("cargo hides {id}"))?;
            // Macros make code but are not in it.
            if !seen.insert(id) || package.is_macro() {
                continue;
            }
            if package.source.is_some() {
                found.push(*package);
            }
            let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            left.extend(dependencies.filter(|it| it.is_in_programs()).map(|it| &it.pkg));
        }
        found.sort_by_key(|package| (&package.name, &package.version));
        Ok(found)
    }
}

impl Dependency {
    fn is_in_programs(&self) -> bool {
        self.dep_kinds.iter().any(|it| it.kind.is_none())
    }
}

impl Package {
    fn is_macro(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }

    /// The text of its licence; of several to choose from the MIT licence, which is the shortest.
    fn licence(&self) -> Result<String> {
        let directory = self.manifest_path.parent().unwrap_or(Path::new("/"));
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().to_uppercase();
            if NAMES.iter().any(|start| name.starts_with(start)) && entry.file_type()?.is_file() {
                paths.push((name, entry.path()));
            }
        }
        paths.sort();
        ensure!(!paths.is_empty(), "{} has no licence in {directory:?}", self.name);
        if let Some(mit) = paths.iter().find(|(name, _)| name.contains("MIT")) {
            paths = vec![mit.clone()];
        }
        let texts = paths.iter().map(|(_, path)| fs::read_to_string(path));
        Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }
}
