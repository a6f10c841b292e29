#!/bin/sh
# Becomes PID 1 of new namespaces: a systemd whose files are this machine's, seen through an overlay that
# vanishes with it. Started by systemd_machine.py, which says where things are:
#   WORK      an empty folder            UNITS     folder of the unit files
#   CHECKOUT  folder of the package      CONFIG    the configuration
#   PACKAGES  folder of what it imports  DROPINS   folder of drop-ins
#   BASE      prefix of the interpreter, PYTHON its path below that
set -eu

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$WORK"
mkdir "$WORK/upper" "$WORK/work" "$WORK/root"
mount -t overlay -o "lowerdir=/,upperdir=$WORK/upper,workdir=$WORK/work" overlay "$WORK/root"
root=$WORK/root

mount -t proc proc "$root/proc"
# systemd would else give the real kernel its own settings.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for name in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${name%:*}" c 1 "${name#*:}"
done
mknod -m 666 "$root/dev/tty" c 5 0

# The interpreter may live where the sandbox sees nothing (/root, /home, /tmp).
opt=$root/opt/tickplant-test
mkdir -p "$opt/base" "$opt/packages" "$opt/checkout"
mount --bind "$BASE" "$opt/base"
mount --bind "$PACKAGES" "$opt/packages"
mount --bind "$CHECKOUT" "$opt/checkout"

# Of what else is installed here, only the journal runs.
rm -rf "$root"/lib/systemd/system/*.wants "$root"/etc/systemd/system "$root"/lib/systemd/system-generators \
    "$root"/etc/systemd/system-generators "$root"/usr/local/lib/systemd
mkdir -p "$root/etc/systemd/system/sysinit.target.wants" "$root/etc/tickplant" "$root/etc/sysusers.d"
ln -s /lib/systemd/system/systemd-journald.service "$root/etc/systemd/system/sysinit.target.wants/"
: > "$root/etc/fstab"
echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"

cp "$UNITS"/*.service "$UNITS"/*.target "$root/etc/systemd/system/"
cp -R "$DROPINS"/. "$root/etc/systemd/system/"
cp "$UNITS/tickplant.sysusers" "$root/etc/sysusers.d/tickplant.conf"
cp "$CONFIG" "$root/etc/tickplant/tickplant.toml"
chmod 644 "$root/etc/tickplant/tickplant.toml"
cat > "$root/usr/local/bin/tickplant" << EOF
#!/bin/sh
export LD_LIBRARY_PATH=/opt/tickplant-test/base/lib
export PYTHONPATH=/opt/tickplant-test/checkout:/opt/tickplant-test/packages
exec /opt/tickplant-test/base/$PYTHON -m tickplant "\$@"
EOF
chmod 755 "$root/usr/local/bin/tickplant"
systemd-sysusers --root="$root" tickplant.conf

mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
cd "$root"
pivot_root . .
umount -l .
exec env -i container=tickplant-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target
