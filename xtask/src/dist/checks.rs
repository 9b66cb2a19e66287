//! What is checked of an installed package, as scripts that fail if it does not hold.
//!
//! `$PREFIX` is where the package was installed, `$FILE` is the package itself.

/// The ways to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tarball,
    Package,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Package, Self::Tarball];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tarball => "tarball",
            Self::Package => "package",
        }
    }

    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Tarball => "/usr/local",
            Self::Package => "/usr",
        }
    }

    /// As docs/packages.md says it.
    pub(crate) fn install(self) -> &'static str {
        match self {
            Self::Tarball => r#"tar -C /usr/local --strip-components 1 -xzf "$FILE""#,
            Self::Package => r#"dpkg --install "$FILE" 2>&1"#,
        }
    }

    /// As docs/packages.md says it.
    pub(crate) fn remove(self) -> &'static str {
        match self {
            Self::Tarball => r#"tar -tzf "$FILE" | sed 's,^[^/]*,/usr/local,' | xargs rm"#,
            Self::Package => "dpkg --purge ipc-cli 2>&1",
        }
    }
}

/// One check.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) kinds: &'static [Kind],
    /// A file without which it cannot be made.
    pub(crate) needs: Option<&'static str>,
    pub(crate) script: &'static str,
}

const BOTH: &[Kind] = &Kind::ALL;

pub(crate) const CHECKS: [Check; 9] = [
    Check {
        name: "lintian",
        kinds: &[Kind::Package],
        needs: Some("/usr/bin/lintian"),
        script: LINTIAN,
    },
    Check { name: "programs", kinds: BOTH, needs: None, script: PROGRAMS },
    Check { name: "no libraries", kinds: &[Kind::Tarball], needs: None, script: NO_LIBRARIES },
    Check { name: "man", kinds: BOTH, needs: Some("/usr/bin/man"), script: MAN },
    Check { name: "mandoc", kinds: BOTH, needs: Some("/usr/bin/mandoc"), script: MANDOC },
    Check { name: "examples", kinds: BOTH, needs: Some("/usr/bin/man"), script: EXAMPLES },
    Check {
        name: "bash",
        kinds: BOTH,
        needs: Some("/usr/share/bash-completion/bash_completion"),
        script: BASH,
    },
    Check { name: "zsh", kinds: BOTH, needs: Some("/usr/bin/zsh"), script: ZSH },
    Check { name: "fish", kinds: BOTH, needs: Some("/usr/bin/fish"), script: FISH },
];

/// It is not made for Debian's archive, where a first version closes a bug that asks for it.
const LINTIAN: &str = r#"
lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs "$FILE" 2>&1
"#;

/// Both are found and copy.
const PROGRAMS: &str = r#"
cd "$(mktemp -d)"
seq 100000 > data
for program in socket sharedmem; do
    test "$(command -v $program)" = "$PREFIX/bin/$program"
    test "$($program --version)" = "$program $VERSION"
    $program 2 data > paths
    test "$(wc -l < paths)" = 2
    xargs -n 1 cmp data < paths
done
test -z "$(ls -A /dev/shm)"
"#;

/// They run where there is nothing but what the kernel has.
const NO_LIBRARIES: &str = r#"
cd "$(mktemp -d)"
mkdir -p dev/shm proc
mount --bind /proc proc
seq 100000 > data
for program in socket sharedmem; do
    cp "$PREFIX/bin/$program" .
    chroot . "/$program" 2 data | xargs -n 1 cmp data
done
"#;

/// The pages are found and are without faults.
const MAN: &str = r#"
for program in socket sharedmem; do
    page=$(man -w $program)
    case $page in
        "$PREFIX"/*) ;;
        *) echo "man shows $page"; exit 1 ;;
    esac
    said=$(man --warnings -E UTF-8 -l "$page" 2>&1 >/dev/null)
    test -z "$said" || { echo "$said"; exit 1; }
done
"#;

const MANDOC: &str = r#"
for page in "$PREFIX"/share/man/man1/socket.1* "$PREFIX"/share/man/man1/sharedmem.1*; do
    zcat -f "$page" | mandoc -T lint
done
"#;

/// What a reader sees behind the prompt does what it should.
const EXAMPLES: &str = r#"
cd "$(mktemp -d)"
for program in socket sharedmem; do
    mkdir $program
    cd $program
    man $program | sed -n 's/^ *\$ //p' > ../examples
    test "$(wc -l < ../examples)" -gt 4
    sh -eu ../examples
    cd ..
done
"#;

/// It finds the completions and completes an option; files it completes by itself.
const BASH: &str = r#"
bash -euc '
    set +u
    . /usr/share/bash-completion/bash_completion
    for program in socket sharedmem; do
        _completion_loader $program || test $? = 124
        complete -p $program
        COMP_WORDS=($program --ver) COMP_CWORD=1
        _$program $program --ver $program
        test "${COMPREPLY[*]}" = "--verify --version"
        COMP_WORDS=($program 3 "") COMP_CWORD=2
        _$program $program "" 3
        test "${COMPREPLY[*]}" = ""
    done
'
"#;

/// It finds the completions, and the key completes an option.
const ZSH: &str = r#"
cat > /tmp/zshrc <<'END'
PS1='READY>'
autoload -Uz compinit
compinit -D
show() { print -r -- "SHOWN:$BUFFER:" }
zle -N show
bindkey '^X' show
END
for program in socket sharedmem; do
    zsh -fc '
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell ". /tmp/zshrc"
        zpty -r shell said "*READY>*"
        zpty -w -n shell "$0 --veri"$'\''\t\x18'\''
        zpty -r shell said "*SHOWN:*:*"
        print -r -- $said
    ' $program > /tmp/said
    grep -F "SHOWN:$program --verify" /tmp/said || { cat -v /tmp/said; exit 1; }
done
"#;

const FISH: &str = r#"
for program in socket sharedmem; do
    test "$(fish -c "complete -C '$program --ver'" | cut -f 1 | xargs)" = "--verify --version"
    test "$(fish -c "complete -C '$program --on-slow '" | cut -f 1 | xargs)" = "detach drop wait"
done
"#;
