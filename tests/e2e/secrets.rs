//! A password that a caller gives is told to the guest and to nobody else.

use std::{fs, path::Path};

use computedriver::v1;

use crate::support::{Sandbox, guest_request};

const PASSWORD: &str = "correct-horse-battery-staple-7731";
const IN_USER_DATA: &str = "user-data-secret-4419";

/// The files below `folder` that contain `word`.
fn holding(folder: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && fs::read(&path).is_ok_and(|bytes| contains(&bytes, word)) {
                found.push(
                    path.file_name()
                        .expect("a file has a name")
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
    }
    found.sort();
    found
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window == word.as_bytes())
}

#[tokio::test]
async fn a_password_is_on_the_config_drive_and_nowhere_else() {
    let sandbox = Sandbox::start(&[]).await;
    // The guest prints its metadata, password included: so it is waited for what comes before that.
    let asked = v1::SpawnRequest {
        admin_password: PASSWORD.to_owned(),
        user_data: IN_USER_DATA.as_bytes().to_vec(),
        ..guest_request("Linux version")
    };
    let shown = format!("{asked:?}");
    assert!(!shown.contains(PASSWORD), "the request's Debug shows it");
    let (instance, _) = sandbox.spawn(asked.clone()).await.unwrap();
    let get = v1::GetInstanceRequest {
        instance_id: instance.instance_id.clone(),
    };
    let told = sandbox
        .instances()
        .await
        .get_instance(get)
        .await
        .unwrap()
        .into_inner();
    for shown in [format!("{instance:?}"), format!("{told:?}")] {
        assert!(
            !shown.contains(PASSWORD) && !shown.contains(IN_USER_DATA),
            "{shown}"
        );
    }
    assert!(
        sandbox.logged().contains("TRACE"),
        "the log is at its fullest"
    );
    for word in [PASSWORD, IN_USER_DATA] {
        let places = holding(sandbox.path(), word);
        let elsewhere: Vec<_> = places
            .iter()
            .filter(|name| !matches!(name.as_str(), "disk.config" | "console.log"))
            .collect();
        assert_eq!(
            elsewhere,
            Vec::<&String>::new(),
            "{word} is found in {elsewhere:?}"
        );
        assert!(
            places.contains(&"disk.config".to_owned()),
            "{word} did not reach the guest"
        );
    }
    // A repeat with another password is another request.
    let other = v1::SpawnRequest {
        admin_password: "another".to_owned(),
        ..asked
    };
    let refused = sandbox.spawn(other).await.unwrap_err();
    assert_eq!(crate::support::reason(&refused), "INSTANCE_EXISTS");
    sandbox.destroy(&instance.instance_id).await.unwrap();
    for word in [PASSWORD, IN_USER_DATA] {
        assert_eq!(holding(sandbox.path(), word), Vec::<String>::new());
    }
}
