//! What building for BPF takes beyond a stock stable toolchain.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;

/// 0.10 links with rustc's own LLVM (22 in rust 1.95); later ones do not build here.
const BPF_LINKER: &str = "0.10.4";
const BPF_LINKER_FEATURES: &str = "rust-llvm-22";

/// The Debian suite that has sources of a current rustc.
const BACKPORTS: &str = "trixie-backports";

/// A bpf-linker, and a sysroot with the standard library's sources.
pub struct Toolchain {
    linker_dir: PathBuf,
}

impl Toolchain {
    /// Sets up what is missing. What is downloaded is kept: the linker below `root`'s target folder, the sources in the sysroot.
    ///
    /// # Errors
    /// When neither rustup nor Debian has the sources, or bpf-linker cannot be built.
    pub fn set_up(root: &Path) -> anyhow::Result<Self> {
        standard_library_sources(&root.join("target/ebpf-toolchain"))?;
        let linker_dir = bpf_linker(&root.join("target/ebpf-toolchain/bpf-linker"))?;
        Ok(Self { linker_dir })
    }

    /// The search path with the linker in it.
    ///
    /// # Errors
    /// When a folder's name has a colon.
    pub fn path(&self) -> anyhow::Result<OsString> {
        let rest = env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.linker_dir.clone()).chain(env::split_paths(&rest));
        Ok(env::join_paths(all)?)
    }
}

/// Where rustc has what it brings along.
///
/// # Errors
/// When it cannot be asked.
pub fn sysroot() -> anyhow::Result<PathBuf> {
    Ok(output(Command::new("rustc").args(["--print", "sysroot"]))?.into())
}

/// Leaves everything out that is not needed to load the programs: nine tenths are debug information.
///
/// # Errors
/// When rustc's own objcopy fails.
pub fn strip(object: &Path, stripped: &Path) -> anyhow::Result<()> {
    let sysroot = sysroot()?;
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let objcopy = sysroot.join(format!("lib/rustlib/{host}/bin/rust-objcopy"));
    output(
        Command::new(objcopy)
            .args(["--strip-debug", "--remove-section=.BTF.ext"])
            .args([object, stripped])
            // Where it expects rustc's LLVM is not where that is.
            .env("LD_LIBRARY_PATH", sysroot.join("lib")),
    )?;
    Ok(())
}

/// Where cargo keeps the sources of dependencies.
///
/// # Errors
/// When nobody's home is known.
pub fn cargo_home() -> anyhow::Result<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
        .context("no home directory: set CARGO_HOME")
}

fn bpf_linker(root: &Path) -> anyhow::Result<PathBuf> {
    let bin = root.join("bin");
    let expected = format!("bpf-linker {BPF_LINKER}");
    let found = Command::new(bin.join("bpf-linker"))
        .arg("--version")
        .stderr(Stdio::null())
        .output();
    if found.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == expected) {
        return Ok(bin);
    }
    println!("building bpf-linker {BPF_LINKER} (once; some minutes)");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked"])
        .args(["--no-default-features", "--features", BPF_LINKER_FEATURES])
        .args(["--force", "--root"])
        .arg(root)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "building bpf-linker {BPF_LINKER} failed");
    Ok(bin)
}

fn standard_library_sources(cache: &Path) -> anyhow::Result<()> {
    let sources = sysroot()?.join("lib/rustlib/src/rust");
    if sources.join("library/core/Cargo.toml").exists() {
        return Ok(());
    }
    let by_rustup = Command::new("rustup")
        .args(["component", "add", "rust-src"])
        .status();
    if by_rustup.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    println!("rustup has no rust-src to give; taking Debian's");
    from_debian(&cache.join("debian"), &sources)
}

/// Debian's rust-src of the same version, fetched by apt with a configuration of our own, so that the host's stays as it is.
fn from_debian(cache: &Path, sources: &Path) -> anyhow::Result<()> {
    let rustc = rustc_version()?;
    let apt = Apt::new(cache)?;
    output(apt.command("apt-get").arg("update"))?;
    // Lines of `rust-src | VERSION | SOURCE`.
    let version = output(apt.command("apt-cache").args(["madison", "rust-src"]))?
        .split_whitespace()
        .find(|word| word.starts_with(&format!("{rustc}+")))
        .map(str::to_owned)
        .with_context(|| format!("{BACKPORTS} has no rust-src for rustc {rustc}; run `rustup component add rust-src` where rustup has its server"))?;
    output(
        apt.command("apt-get")
            .args(["download", &format!("rust-src={version}")]),
    )?;
    let package = cache.join(format!("rust-src_{version}_all.deb"));
    let unpacked = cache.join("unpacked");
    output(
        Command::new("dpkg-deb")
            .arg("--extract")
            .args([&package, &unpacked]),
    )?;
    fs::create_dir_all(sources)?;
    let library = unpacked.join(format!("usr/src/rustc-{rustc}/library"));
    output(
        Command::new("cp")
            .args(["--recursive", "--no-target-directory"])
            .args([&library, &sources.join("library")]),
    )?;
    Ok(())
}

/// apt with lists and caches of its own, which knows the backports only.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn new(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir.join("lists/partial"))?;
        let source = format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} {BACKPORTS} main\n",
            debian_mirror()?
        );
        fs::write(dir.join("backports.list"), source)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir);
        // As root, apt would hand downloads to a user who may not write here.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command.args(["-o", "Dir::Etc::sourceparts=-"]);
        for (name, file) in [
            ("Dir::Etc::sourcelist", "backports.list"),
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", ""),
        ] {
            let mut option = OsString::from(format!("{name}="));
            option.push(self.dir.join(file));
            command.arg("-o").arg(option);
        }
        command
    }
}

/// `1.95.0`.
fn rustc_version() -> anyhow::Result<String> {
    output(Command::new("rustc").arg("-vV"))?
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .map(str::to_owned)
        .context("rustc does not say its version")
}

/// The mirror this machine takes Debian from.
fn debian_mirror() -> anyhow::Result<String> {
    output(Command::new("apt-get").args(["indextargets", "--format", "$(SITE) $(ORIGIN) $(LABEL)"]))?
        .lines()
        .find_map(|line| line.strip_suffix(" Debian Debian"))
        .map(|site| site.trim().to_owned())
        .context("this machine takes its packages from no Debian mirror: install rust-src of rustc's version into the sysroot by hand")
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?} failed ({})",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
