//! How a host proves to storage services who it is, as it is said on a command line.
//!
//! One user, or one secret, serves every volume over iSCSI or RBD. Of several, each serves one, in the order in which the
//! volumes are named, that which is booted from first.

use std::fmt;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::exit::Failure;

/// The variable that may hold the secret.
const VARIABLE: &str = "COMPUTECTL_VOLUME_SECRET";

/// Who the host is to storage services. Its `Debug` shows no secret.
#[derive(Clone, Default, Args)]
pub(crate) struct LoginArgs {
    /// User of the volumes' storage, of CHAP or cephx. Given more than once, one for each volume over iSCSI or RBD in their
    /// order, that of `--boot-volume` first; empty for one without a login.
    #[arg(long, value_name = "NAME")]
    volume_user: Vec<String>,
    /// File whose first line is that user's secret (`-` is stdin). Given more than once, one for each user in their order;
    /// each `-` is stdin's next line then. Default: what `COMPUTECTL_VOLUME_SECRET` holds.
    #[arg(long, value_name = "FILE", requires = "volume_user")]
    volume_secret_file: Vec<PathBuf>,
    /// How many volumes have asked for a user.
    #[arg(skip)]
    users: usize,
    /// The secrets that were read.
    #[arg(skip)]
    secrets: Vec<String>,
}

impl fmt::Debug for LoginArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {:?}", self.volume_user, self.volume_secret_file)
    }
}

impl LoginArgs {
    /// The login of the next volume that may have one; both empty without.
    pub(super) fn next(&mut self) -> Result<(String, String), Failure> {
        self.users += 1;
        let user = match &self.volume_user[..] {
            [] => return Ok(Default::default()),
            [one] => one,
            many => many.get(self.users - 1).ok_or_else(|| {
                let words = "--volume-user is given more than once, and not for every volume over iSCSI or RBD";
                Failure::Usage(words.to_owned())
            })?,
        };
        if user.is_empty() {
            return Ok(Default::default());
        }
        let user = user.clone();
        Ok((user, self.secret()?))
    }

    fn secret(&mut self) -> Result<String, Failure> {
        let file = match (&self.volume_secret_file[..], &self.secrets[..]) {
            ([], _) => {
                let secret = std::env::var(VARIABLE);
                let missing = format!("--volume-user goes with --volume-secret-file or {VARIABLE}");
                return secret.map_err(|_| Failure::Usage(missing));
            }
            ([_], [read, ..]) => return Ok(read.clone()),
            (many, read) => many.get(read.len()).ok_or_else(|| {
                let words = "--volume-secret-file is given more than once, and not for every user";
                Failure::Usage(words.to_owned())
            })?,
        };
        let secret = first_line(file)?;
        self.secrets.push(secret.clone());
        Ok(secret)
    }

    /// Refuses a login that no volume has asked for.
    pub(crate) fn end(&self) -> Result<(), Failure> {
        let (users, files) = (self.volume_user.len(), self.volume_secret_file.len());
        let unused = match (self.users < users, self.secrets.len() < files) {
            (true, _) => "--volume-user",
            (_, true) => "--volume-secret-file",
            _ => return Ok(()),
        };
        let words = "is for volumes over iSCSI or RBD, and there are fewer of them";
        Err(Failure::Usage(format!("{unused} {words}")))
    }

    /// As if it had been said.
    #[cfg(test)]
    pub(super) fn of(users: &[&str], files: &[PathBuf]) -> Self {
        Self {
            volume_user: users.iter().map(|user| (*user).to_owned()).collect(),
            volume_secret_file: files.to_vec(),
            ..Self::default()
        }
    }
}

fn first_line(file: &Path) -> Result<String, Failure> {
    let mut line = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().lock().read_line(&mut line),
        _ => std::fs::File::open(file)
            .and_then(|file| std::io::BufReader::new(file).read_line(&mut line)),
    };
    let name = file.display();
    read.map_err(|e| Failure::Usage(format!("{name} cannot be read: {e}")))?;
    let secret = line.trim_end_matches(['\n', '\r']);
    match secret.is_empty() {
        true => Err(Failure::Usage(format!("{name} has no secret"))),
        false => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, words: &[&str]) -> Vec<PathBuf> {
        let made = words.iter().map(|word| {
            let file = folder.join(word);
            std::fs::write(&file, format!("{word}\nmore\n")).unwrap();
            file
        });
        made.collect()
    }

    fn taken(login: &mut LoginArgs, times: usize) -> Result<Vec<(String, String)>, Failure> {
        let taken = (0..times).map(|_| login.next()).collect::<Result<_, _>>()?;
        login.end()?;
        Ok(taken)
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(user, word): &(&str, &str)| ((*user).to_owned(), (*word).to_owned());
        all.iter().map(pair).collect()
    }

    #[test]
    fn one_login_serves_all_volumes_and_several_serve_one_each() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), &["one", "two"]);
        let mut all = LoginArgs::of(&["me"], &files[..1]);
        let expected = pairs(&[("me", "one"), ("me", "one")]);
        assert_eq!(taken(&mut all, 2).unwrap_or_default(), expected);
        let mut words = LoginArgs::of(&["me"], &files);
        let expected = pairs(&[("me", "one"), ("me", "two")]);
        assert_eq!(taken(&mut words, 2).unwrap_or_default(), expected);
        let mut each = LoginArgs::of(&["me", "", "you"], &files);
        let expected = pairs(&[("me", "one"), ("", ""), ("you", "two")]);
        assert_eq!(taken(&mut each, 3).unwrap_or_default(), expected);
        assert_eq!(each.secrets, ["one", "two"]);
        each.volume_secret_file.clear();
        assert!(!format!("{each:?}").contains("two"), "{each:?}");
        assert!(taken(&mut LoginArgs::default(), 3).is_ok());
    }

    #[test]
    fn a_login_that_is_too_much_or_too_little_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), &["one", "two", "three"]);
        for (users, files, volumes) in [
            (&["me"][..], &files[..1], 0),
            (&["me", "you"], &files[..1], 1),
            (&["me", "you"], &files[..1], 3),
            (&["me"], &files[..2], 1),
            (&["me"], &files[..2], 3),
            (&["me", "you"], &files[..3], 2),
        ] {
            let outcome = taken(&mut LoginArgs::of(users, files), volumes);
            assert!(
                matches!(outcome, Err(Failure::Usage(_))),
                "{users:?} {volumes}"
            );
        }
    }
}
