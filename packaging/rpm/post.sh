# $1: 1 at the first installation, 2 at an upgrade.
if [ "$1" = 1 ]; then
	systemctl enable trued-boot.service trued-rollback.timer trued.service >/dev/null 2>&1 || true
elif [ ! -e /var/lib/trued/.rollback-timer ]; then
	# The version before had none. Where it was there, what the administrator
	# disabled stays so.
	systemctl enable trued-rollback.timer >/dev/null 2>&1 || true
fi
touch /var/lib/trued/.rollback-timer
# In a chroot or an image there is nothing to start.
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || true
[ -e /etc/trued/trued.yaml ] || exit 0
systemctl is-enabled --quiet trued.service || exit 0
# Never waited for: the agent may be in the middle of the transaction that
# upgrades it, and would wait for us.
if [ "$1" = 1 ]; then
	systemctl start --no-block trued.service || true
elif [ "$(systemctl show --value --property=ActiveState trued.service)" != inactive ]; then
	systemctl restart --no-block trued.service || true
fi
