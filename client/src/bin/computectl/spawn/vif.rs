//! Interfaces as they are named on the command line.

use computedriver_client::v1::{BridgeVif, FixedIp, UserVif, Vif, vif::Type};
use uuid::Uuid;

/// `NAME[,mac=…][,ip=…/…][,gateway=…]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BridgeArg {
    bridge: String,
    mac: Option<String>,
    ips: Vec<FixedIp>,
}

pub(crate) fn parse(text: &str) -> Result<BridgeArg, String> {
    let mut parts = text.split(',');
    let bridge = parts.next().unwrap_or_default().to_owned();
    if bridge.is_empty() || bridge.contains('=') {
        return Err("begins with the bridge's name".to_owned());
    }
    let mut arg = BridgeArg {
        bridge,
        mac: None,
        ips: Vec::new(),
    };
    for part in parts {
        match part.split_once('=') {
            Some(("mac", mac)) => arg.mac = Some(mac.to_owned()),
            Some(("ip", ip)) => arg.ips.push(fixed_ip(ip)?),
            Some(("gateway", gateway)) => {
                let ip = arg.ips.last_mut().ok_or("gateway comes after its ip")?;
                ip.gateway = gateway.to_owned();
            }
            _ => return Err(format!("`{part}` is none of mac=, ip=, gateway=")),
        }
    }
    Ok(arg)
}

fn fixed_ip(text: &str) -> Result<FixedIp, String> {
    let wrong = || format!("ip `{text}` is not ADDRESS/BITS");
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    Ok(FixedIp {
        address: address.to_owned(),
        prefix_length: bits.parse().map_err(|_| wrong())?,
        ..Default::default()
    })
}

/// The interfaces of an instance. Their ids and addresses follow from the instance's id, so that the same command
/// repeated is the same request.
pub(crate) fn vifs(instance_id: &str, bridges: Vec<BridgeArg>, user_net: bool) -> Vec<Vif> {
    let mut vifs = Vec::new();
    for arg in bridges {
        let mut vif = vif(instance_id, vifs.len());
        let BridgeArg { bridge, mac, ips } = arg;
        vif.r#type = Some(Type::Bridge(BridgeVif { bridge }));
        vif.fixed_ips = ips;
        if let Some(mac) = mac {
            vif.mac_address = mac;
        }
        vifs.push(vif);
    }
    if user_net {
        let mut vif = vif(instance_id, vifs.len());
        vif.r#type = Some(Type::User(UserVif {}));
        vifs.push(vif);
    }
    vifs
}

fn vif(instance_id: &str, nth: usize) -> Vif {
    let name = format!("computectl:{instance_id}:{nth}");
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    let [a, b, c, ..] = *id.as_bytes();
    Vif {
        interface_id: id.to_string(),
        // QEMU's prefix, locally administered.
        mac_address: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, vifs};

    #[test]
    fn a_bridge_takes_its_options() {
        let arg = parse("br0,mac=52:54:00:00:00:01,ip=10.0.0.5/24,gateway=10.0.0.1").expect("good");
        let vifs = vifs("i", vec![arg], true);
        assert_eq!(vifs.len(), 2);
        assert_eq!(vifs[0].mac_address, "52:54:00:00:00:01");
        assert_eq!(vifs[0].fixed_ips[0].prefix_length, 24);
        assert_eq!(vifs[0].fixed_ips[0].gateway, "10.0.0.1");
        assert_ne!(vifs[0].interface_id, vifs[1].interface_id);
    }

    #[test]
    fn bad_options_are_refused() {
        for bad in [
            "",
            "mac=x",
            "br0,ip=10.0.0.5",
            "br0,gateway=10.0.0.1",
            "br0,x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_instance_gets_the_same_interfaces() {
        assert_eq!(vifs("i", Vec::new(), true), vifs("i", Vec::new(), true));
        assert_ne!(vifs("i", Vec::new(), true), vifs("j", Vec::new(), true));
    }
}
