//! What is run inside a guest: small scripts for its POSIX shell. What a caller or a guest has said is never part of a
//! script's text: it is an argument, or was parsed into an address or a number.

use std::{fmt::Write as _, net::IpAddr};

use uuid::Uuid;

use crate::{
    hypervisor::agent::{GuestInterface, Program},
    model::{InstanceId, Subnet, Vif},
};

/// The name under which a file is written before it takes its place: in the same folder, the same for the same file, so
/// that what a crash left is written over.
pub fn part_of(instance: InstanceId, path: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let name = Uuid::new_v5(&instance.uuid(), path.as_bytes()).simple();
    format!("{folder}/.computelet-{name}")
}

fn shell(script: &str, args: &[&str]) -> Program {
    let words = ["-c", script, "sh"].into_iter().chain(args.iter().copied());
    Program {
        path: "/bin/sh".to_owned(),
        args: words.map(str::to_owned).collect(),
    }
}

/// Makes an empty file that nobody else can read. What lies there under its name is not followed.
pub fn begin_file(part: &str) -> Program {
    shell(r#"umask 077; rm -f -- "$1"; set -C; : > "$1""#, &[part])
}

/// Gives a file its owner and its mode, and puts it into its place.
pub fn finish_file(part: &str, path: &str, (mode, owner): (u32, Option<&str>)) -> Program {
    let script = r#"
[ ! -d "$2" ] || { echo "it is a folder" >&2; exit 1; }
[ -z "$4" ] || chown -- "$4" "$1" || exit 1
chmod -- "$3" "$1" && mv -f -- "$1" "$2""#;
    let mode = format!("{mode:04o}");
    shell(script, &[part, path, &mode, owner.unwrap_or_default()])
}

/// Removes a file; absent is a success.
pub fn drop_file(part: &str) -> Program {
    shell(r#"rm -f -- "$1""#, &[part])
}

/// The folder in which a new agent is installed from.
pub const UPDATE: &str = "/var/lib/computelet-update";

/// Makes an empty folder that only root can enter.
pub fn begin_update() -> Program {
    shell(
        r#"umask 077; rm -rf -- "$1" && mkdir -p -- "$1""#,
        &[UPDATE],
    )
}

/// The program that installs a new agent.
pub fn updater() -> String {
    format!("{UPDATE}/update")
}

/// Starts that program beside the agent, so that it outlives it; how it ended will be in a file.
pub fn start_update() -> Program {
    let run = r#""$1/update" > "$1/said" 2>&1 < /dev/null
echo "$?" > "$1/status.part"
mv -f "$1/status.part" "$1/status""#;
    // A service's end takes all its processes along, unless somebody else has started them.
    let script = r#"
chmod 700 "$1/update" && printf '%s\n' "$2" > "$1/run" || exit 1
if [ -d /run/systemd/system ] && command -v systemd-run > /dev/null; then
    exec systemd-run --quiet --collect -- /bin/sh "$1/run" "$1"
fi
set -- /bin/sh "$1/run" "$1"
! command -v setsid > /dev/null || set -- setsid "$@"
"$@" > /dev/null 2>&1 < /dev/null &"#;
    // `run` is a file, whose `$1` is the shell's.
    shell(script, &[UPDATE, run])
}

/// What [`ask_update`] exits with while the program runs.
pub const STILL: i64 = 75;

/// Asks how that program ended: its exit status, then what it said last.
pub fn ask_update() -> Program {
    let script = r#"[ -e "$1/status" ] || exit 75; cat "$1/status"; tail -c 1000 "$1/said""#;
    shell(script, &[UPDATE])
}

/// Removes all that was made for an update.
pub fn end_update() -> Program {
    shell(r#"rm -rf -- "$1""#, &[UPDATE])
}

/// Whether a vif has an address that a guest can be told.
pub fn has_address(vif: &Vif) -> bool {
    vif.subnets.iter().any(|subnet| subnet.address.is_some())
}

const PATH: &str = "PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin; export PATH\n";

/// Sets an interface's addresses, routes and MTU as its vif says. Other addresses of the same families go, but for those
/// that a link gives itself.
pub fn set_addresses(vif: &Vif, told: &GuestInterface) -> Program {
    let mut script = format!("set -e\n{PATH}");
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(script, "{words}");
    };
    if let Some(mtu) = vif.mtu {
        line(format_args!(r#"ip link set dev "$1" mtu {mtu}"#));
    }
    line(format_args!(r#"ip link set dev "$1" up"#));
    let fixed = || vif.subnets.iter().filter_map(|subnet| subnet.address);
    // First: an address that goes may take along those after it of the same network.
    for (ip, prefix) in &told.addresses {
        let wanted = fixed().any(|address| (address.ip, address.prefix) == (*ip, *prefix));
        let ours = fixed().any(|address| address.ip.is_ipv4() == ip.is_ipv4());
        if ours && !wanted && !is_link_local(*ip) {
            let v = family(*ip);
            line(format_args!(r#"ip {v} addr del {ip}/{prefix} dev "$1""#));
        }
    }
    for address in fixed() {
        let v = family(address.ip);
        line(format_args!(r#"ip {v} addr replace {address} dev "$1""#));
    }
    for subnet in vif.subnets.iter().filter(|subnet| subnet.address.is_some()) {
        for (destination, gateway) in routes(subnet) {
            let v = family(gateway);
            line(format_args!(
                r#"ip {v} route replace {destination} via {gateway} dev "$1""#
            ));
        }
    }
    shell(&script, &[&told.name])
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "-4" } else { "-6" }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn routes(subnet: &Subnet) -> impl Iterator<Item = (String, IpAddr)> {
    let default = subnet.gateway.map(|ip| ("default".to_owned(), ip));
    let further = subnet.routes.iter();
    default
        .into_iter()
        .chain(further.map(|route| (route.destination.to_string(), route.gateway)))
}

/// Brings an interface down and up, through whoever looks after it.
pub fn reset(interface: &str) -> Program {
    let script = r#"
has() { command -v "$1" > /dev/null 2>&1; }
if has nmcli && state=$(nmcli -g GENERAL.STATE device show "$1" 2> /dev/null); then
    case $state in
    10* | "") ;;
    *) nmcli device disconnect "$1" && exec nmcli device connect "$1"; exit 1 ;;
    esac
fi
if has networkctl && networkctl --no-legend list "$1" 2> /dev/null | grep -Eq 'configured|configuring'; then
    networkctl down "$1" && exec networkctl up "$1"
    exit 1
fi
if has ifdown && has ifquery && ifquery "$1" > /dev/null 2>&1; then
    ifdown --force "$1" && exec ifup "$1"
    exit 1
fi
# Nobody does: a link that goes down keeps its IPv4 addresses, and loses its routes and its IPv6 addresses.
addresses=$(ip -6 addr show dev "$1" scope global | awk '$1 == "inet6" { print $2 }')
routes=$(ip -4 route show dev "$1")
routes6=$(ip -6 route show dev "$1" 2> /dev/null | grep -v '^fe80')
ip link set dev "$1" down && ip link set dev "$1" up || exit 1
for address in $addresses; do ip -6 addr replace "$address" dev "$1" || exit 1; done
again() { # FAMILY: routes through neighbours need those to them, which come by themselves
    while read -r route; do
        case $route in
        "" | *"proto kernel"* | *"scope link"*) continue ;;
        esac
        route=${route%% dev *}
        # shellcheck disable=SC2086
        ip "$1" route replace ${route% linkdown} dev "$name" || return 1
    done
}
name=$1
printf '%s\n' "$routes" | again -4 && printf '%s\n' "$routes6" | again -6"#;
    shell(&format!("{PATH}{script}"), &[interface])
}

#[cfg(test)]
mod tests;
