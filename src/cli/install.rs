//! `install` and `uninstall`: a service for systemd on a board without the Debian package. Each says what it does; `--dry-run` only says.
//!
//! The files are those of the package. What a person may have changed is never overwritten, and data is never removed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::arguments::{Install, Uninstall};
use super::{Exit, Failure, say};

const UNIT: &str = include_str!("../../cross/systemd/fogfun.service");
const ENVIRONMENT: &str = include_str!("../../cross/debian/default");
const MODULE: &str = include_str!("../../examples/fridge/module.yaml");

const BINARY_PATH: &str = "usr/local/bin/fogfun";
const UNIT_PATH: &str = "etc/systemd/system/fogfun.service";
const ENVIRONMENT_PATH: &str = "etc/default/fogfun";
const MODULE_EXAMPLE_PATH: &str = "etc/fogfun/module.yaml.example";
const DATA_PATH: &str = "var/lib/fogfun";
const USER: &str = "fogfun";

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Directory(&'static str),
    /// The data directory, the service's own.
    Data(&'static str),
    /// Ours: written whatever is there.
    Write(&'static str, String),
    /// A person's: written only if there is none.
    WriteNew(&'static str, &'static str),
    CopyProgram(&'static str),
    Remove(&'static str),
    Run(&'static [&'static str]),
    /// The same, but a failure changes nothing for what follows.
    Try(&'static [&'static str]),
    AddUser,
}

pub(super) fn install(arguments: &Install) -> Result<Exit, Failure> {
    let root = Root::of(arguments.root.as_deref(), arguments.dry_run)?;
    root.take(&steps_to_install())?;
    if !arguments.dry_run {
        say("next: write /etc/fogfun/module.yaml, choose the board in /etc/default/fogfun, then");
        say("      fogfun check /etc/fogfun/module.yaml && systemctl enable --now fogfun");
    }
    Ok(Exit::Done)
}

pub(super) fn uninstall(arguments: &Uninstall) -> Result<Exit, Failure> {
    let root = Root::of(arguments.root.as_deref(), arguments.dry_run)?;
    root.take(&steps_to_uninstall())?;
    say(
        "left: /var/lib/fogfun (the state of every function), /etc/fogfun, /etc/default/fogfun, the user fogfun",
    );
    Ok(Exit::Done)
}

fn steps_to_install() -> Vec<Step> {
    vec![
        Step::CopyProgram(BINARY_PATH),
        Step::AddUser,
        Step::Data(DATA_PATH),
        Step::Directory("etc/fogfun"),
        Step::Write(MODULE_EXAMPLE_PATH, MODULE.to_owned()),
        Step::WriteNew(ENVIRONMENT_PATH, ENVIRONMENT),
        Step::Write(UNIT_PATH, UNIT.replace("=/usr/bin/fogfun ", "=/usr/local/bin/fogfun ")),
        Step::Run(&["systemctl", "daemon-reload"]),
    ]
}

fn steps_to_uninstall() -> Vec<Step> {
    vec![
        Step::Try(&["systemctl", "disable", "--now", "fogfun"]),
        Step::Remove(UNIT_PATH),
        Step::Run(&["systemctl", "daemon-reload"]),
        Step::Remove(MODULE_EXAMPLE_PATH),
        Step::Remove(BINARY_PATH),
    ]
}

/// The system that is changed: this one, or a tree of files in which no command is run.
struct Root {
    path: PathBuf,
    is_system: bool,
    is_dry: bool,
}

impl Root {
    fn of(path: Option<&Path>, is_dry: bool) -> Result<Self, Failure> {
        let is_system = path.is_none();
        if is_system && !is_dry && !rustix::process::geteuid().is_root() {
            let text = "this changes the system and needs root: `sudo fogfun …`; `--dry-run` only says what it would do";
            return Err(Failure(Exit::Failed, text.to_owned()));
        }
        let path = path.map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
        Ok(Self { path, is_system, is_dry })
    }

    fn take(&self, steps: &[Step]) -> Result<(), Failure> {
        for step in steps {
            self.step(step).map_err(|error| Failure(Exit::Failed, error))?;
        }
        Ok(())
    }

    fn step(&self, step: &Step) -> Result<(), String> {
        let told = |error: std::io::Error| error.to_string();
        match step {
            Step::Directory(path) => {
                self.doing("directory", path, |path| fs::create_dir_all(path).map_err(told))
            }
            Step::Data(path) => self.doing("directory", path, |path| self.own_directory(path)),
            Step::Write(path, text) => self.doing("write", path, |path| write(path, text, 0o644)),
            Step::WriteNew(name, text) => {
                if self.path.join(name).exists() {
                    say(&format!("keep       {}", self.path.join(name).display()));
                    return Ok(());
                }
                self.doing("write", name, |path| write(path, text, 0o644))
            }
            Step::CopyProgram(path) => self.doing("program", path, copy_program),
            Step::Remove(path) => self.doing("remove", path, |path| match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
                _ => Ok(()),
            }),
            Step::Run(words) => self.run(words),
            Step::Try(words) => {
                // For example the service was never enabled.
                let _not_needed = self.run(words);
                Ok(())
            }
            Step::AddUser if self.is_system && is_known(USER) => {
                say(&format!("keep       user {USER}"));
                Ok(())
            }
            Step::AddUser => self.run(&[
                "useradd",
                "--system",
                "--user-group",
                "--home-dir",
                "/var/lib/fogfun",
                "--no-create-home",
                "--shell",
                "/usr/sbin/nologin",
                USER,
            ]),
        }
    }

    fn doing(
        &self,
        word: &str,
        name: &str,
        work: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let path = self.path.join(name);
        say(&format!("{word:<10} {}", path.display()));
        if self.is_dry {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        }
        work(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn run(&self, words: &[&str]) -> Result<(), String> {
        let Some((program, rest)) = words.split_first() else { return Ok(()) };
        say(&format!("run        {}", words.join(" ")));
        if self.is_dry || !self.is_system {
            return Ok(());
        }
        match Command::new(program).args(rest).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{}: {status}", words.join(" "))),
            Err(error) => Err(format!("{program}: {error}")),
        }
    }

    fn own_directory(&self, path: &Path) -> Result<(), String> {
        let told = |error: std::io::Error| error.to_string();
        fs::create_dir_all(path).map_err(told)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o750)).map_err(told)?;
        match ids(USER).filter(|_| self.is_system) {
            Some((user, group)) => chown(path, Some(user), Some(group)).map_err(told),
            None => Ok(()),
        }
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    fs::write(path, text).map_err(told)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(told)
}

/// Beside and renamed: a running program's file cannot be written to.
fn copy_program(path: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let own = std::env::current_exe().map_err(told)?;
    if own == path {
        return Ok(());
    }
    let beside = path.with_extension("new");
    fs::copy(own, &beside).map_err(told)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).map_err(told)?;
    fs::rename(&beside, path).map_err(told)
}

fn is_known(user: &str) -> bool {
    ids(user).is_some()
}

/// User and group, from /etc/passwd, where `useradd --system` puts them.
fn ids(user: &str) -> Option<(u32, u32)> {
    ids_in(&fs::read_to_string("/etc/passwd").ok()?, user)
}

fn ids_in(passwd: &str, user: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(user);
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        is_it.then_some((user, group))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(path: &Path, is_dry: bool) -> Root {
        Root { path: path.to_owned(), is_system: false, is_dry }
    }

    #[test]
    fn install_and_uninstall_leave_what_is_a_persons() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        root(directory.path(), false).take(&steps_to_install()).unwrap();
        let unit = fs::read_to_string(at(UNIT_PATH)).unwrap();
        assert!(unit.contains("ExecStart=/usr/local/bin/fogfun run /etc/fogfun/module.yaml"));
        assert!(!unit.contains("/usr/bin/fogfun"));
        assert_eq!(fs::metadata(at(BINARY_PATH)).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::metadata(at(DATA_PATH)).unwrap().permissions().mode() & 0o777, 0o750);
        fs::write(at(ENVIRONMENT_PATH), "FOGFUN_BOARD=rpi4\n").unwrap();
        fs::write(at("var/lib/fogfun/state"), "mine").unwrap();
        root(directory.path(), false).take(&steps_to_install()).unwrap();
        root(directory.path(), false).take(&steps_to_uninstall()).unwrap();
        assert_eq!(fs::read_to_string(at(ENVIRONMENT_PATH)).unwrap(), "FOGFUN_BOARD=rpi4\n");
        assert!(at("var/lib/fogfun/state").exists());
        assert!(!at(UNIT_PATH).exists() && !at(BINARY_PATH).exists() && !at(MODULE_EXAMPLE_PATH).exists());
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        root(directory.path(), true).take(&steps_to_install()).unwrap();
        root(directory.path(), true).take(&steps_to_uninstall()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\nfogfun2:x:7:8::/:/bin/false\nfogfun:x:998:997::/:/bin/false\n";
        assert_eq!(ids_in(passwd, "fogfun"), Some((998, 997)));
        assert_eq!(ids_in(passwd, "fog"), None);
    }
}
