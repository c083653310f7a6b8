# $1: 0 at a removal. An upgrade leaves the daemon running.
[ "$1" = 0 ] || exit 0
rm -f /var/lib/trued/.rollback-timer
systemctl disable trued-boot.service trued-rollback.timer trued.service >/dev/null 2>&1 || true
[ -d /run/systemd/system ] || exit 0
systemctl stop trued-rollback.timer trued.service trued-boot.service || true
