//! The policy itself, and that the published file is what the code does.

use std::time::Duration;
use std::{env, fs};

use serde_json::Value;

use super::{FULL, RetryPolicy, Throttle, service_config};
use crate::method::{Effect, METHODS, Shape};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/service-config.json");

#[test]
fn the_published_service_config_is_the_one_in_force() {
    let now = service_config();
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(FILE, format!("{now:#}\n")).expect("the file can be written");
    }
    let published = fs::read_to_string(FILE).expect("docs/service-config.json is there");
    let published: Value = serde_json::from_str(&published).expect("it is JSON");
    assert_eq!(published, now, "run the test with UPDATE_GOLDEN=1");
}

#[test]
fn only_idempotent_unary_calls_are_retried_in_the_service_config() {
    let config = service_config();
    let mut named = 0;
    for entry in config["methodConfig"].as_array().expect("a list") {
        for name in entry["name"].as_array().expect("a list") {
            named += 1;
            let method = METHODS
                .iter()
                .find(|m| name["service"] == m.service && name["method"] == m.name)
                .expect("the method is in the contract");
            assert_eq!(method.shape, Shape::Unary, "{name}");
            let retried = entry.get("retryPolicy").is_some();
            assert_eq!(retried, method.effect != Effect::Once, "{name}");
        }
    }
    let unary = METHODS.iter().filter(|m| m.shape == Shape::Unary).count();
    assert_eq!(named, unary, "each unary call has its deadline");
}

#[test]
fn pauses_grow_and_stay_below_the_limit() {
    let policy = RetryPolicy::default();
    for attempt in 1..40 {
        let pause = policy.backoff(attempt);
        assert!(pause <= policy.max_backoff, "{pause:?}");
        if attempt == 1 {
            assert!(pause <= policy.initial_backoff, "{pause:?}");
        }
    }
    let many: Vec<Duration> = (0..8).map(|_| policy.backoff(5)).collect();
    assert!(many.windows(2).any(|w| w[0] != w[1]), "{many:?}");
}

#[test]
fn a_client_whose_calls_keep_failing_stops_repeating_them() {
    let throttle = Throttle::new(&RetryPolicy::default());
    let allowed = (0..1000).take_while(|_| throttle.failed()).count();
    assert_eq!(allowed, (FULL / 2000 - 1) as usize);
    for _ in 0..100 {
        throttle.succeeded();
    }
    assert!(throttle.failed(), "successes give tokens back");
}
