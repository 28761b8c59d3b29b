use super::*;

fn sh(script: &str) -> Command {
    Command::new("sh").arg("-c").arg(script)
}

#[tokio::test]
async fn output_and_input_reach_their_ends() {
    let big = vec![b'x'; 1 << 20];
    let input = Secret::new(big.clone());
    let output = Command::new("cat").stdin(input).run().await.unwrap();
    assert_eq!(output.stdout.len(), big.len());
    let output = sh("echo $LC_ALL; echo oops >&2").run().await.unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"C\n"[..], "oops"));
}

#[tokio::test]
async fn what_a_program_reads_is_shown_by_nothing() {
    let command = sh("cat > /dev/null; exit 1").stdin(Secret::new(b"marker".to_vec()));
    let shown = format!("{command:?}");
    let bytes = format!("{:?}", b"marker").replace(['[', ']'], "");
    assert!(
        !shown.contains("marker") && !shown.contains(&bytes),
        "{shown}"
    );
    let e = command.run().await.unwrap_err();
    assert!(!format!("{e:?} {e}").contains("marker"), "{e:?}");
}

#[tokio::test]
async fn failure_carries_status_and_words() {
    let e = sh("echo nope >&2; exit 3").run().await.unwrap_err();
    assert_eq!(e.to_string(), "sh failed with exit status: 3: nope");
}

#[tokio::test]
async fn an_absent_program_cannot_be_started_with_and_without_limits() {
    let plain = Command::new("no-such-program-here");
    let limited = plain.clone().limits(ResourceLimits {
        cpu: Some(Duration::from_secs(1)),
        ..Default::default()
    });
    for command in [plain, limited] {
        let e = command.run().await.unwrap_err();
        assert!(matches!(e, CommandError::Start { .. }), "{e}");
    }
}

#[tokio::test]
async fn a_slow_program_is_killed_at_its_limit() {
    let e = sh("echo $$; exec sleep 1000")
        .time_limit(Duration::from_millis(100))
        .run()
        .await
        .unwrap_err();
    assert!(matches!(e, CommandError::TimedOut { .. }), "{e}");
}

#[tokio::test]
async fn limits_hold_from_the_first_instruction() {
    let limits = ResourceLimits {
        cpu: Some(Duration::from_millis(1500)),
        address_space: Some(512 << 20),
        file_size: Some(1 << 20),
    };
    let output = sh("ulimit -t; ulimit -v; ulimit -f; ulimit -c")
        .limits(limits)
        .run()
        .await
        .unwrap();
    assert_eq!(output.stdout, b"2\n524288\n2048\n0\n");
    let e = sh("while :; do :; done")
        .limits(ResourceLimits {
            cpu: Some(Duration::from_secs(1)),
            ..limits
        })
        .run()
        .await
        .unwrap_err();
    assert!(matches!(e, CommandError::Failed { .. }), "{e}");
}

#[tokio::test]
async fn a_program_that_prints_without_end_is_stopped() {
    let e = Command::new("yes").run().await.unwrap_err();
    assert!(matches!(e, CommandError::TooMuchOutput { .. }), "{e}");
}
