#!/bin/sh
# Called by udhcpc with what the DHCP server gave.
case $1 in bound | renew) ;; *) exit ;; esac
ip addr replace "$ip/${mask:-24}" dev "$interface"
[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
[ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface"
read -r up _ < /proc/uptime
[ "$1" = renew ] || echo "GUEST-NET $up $interface $ip/${mask:-24} router=$router mtu=$mtu" > /dev/console
