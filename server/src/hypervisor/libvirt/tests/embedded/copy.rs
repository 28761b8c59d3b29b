//! Copies of disks, as the real QEMU driver makes them.

use super::*;
use crate::{
    domain::Format,
    hypervisor::copy::{Copying as _, DiskCopy},
};

#[tokio::test]
async fn of_a_guest_that_is_off_none_is_begun_and_that_is_its_state() {
    let Some((_, settings)) = role() else {
        let test = "copy::of_a_guest_that_is_off_none_is_begun_and_that_is_its_state";
        return in_own_process(test, &["all"]).await;
    };
    let libvirt = up(settings).await;
    let id = InstanceId::random();
    libvirt.define(&domain(id, VirtType::Qemu)).await.unwrap();
    let copy = DiskCopy {
        target: "vda".to_owned(),
        file: "/nowhere".into(),
        format: Format::Raw,
    };
    let refused = libvirt.begin_copy(id, &copy).await.unwrap_err();
    assert!(
        matches!(refused, HypervisorError::State { .. }),
        "{refused}"
    );
    libvirt.undefine(id).await.unwrap();
}
