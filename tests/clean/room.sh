#!/bin/bash
# Runs a command of the project in a Debian 12 that has nothing but its base system, as an ordinary user
# with sudo: what a new user's machine has.
#
#   tests/clean/room.sh [--as-root] COMMAND...     e.g. tests/clean/room.sh launch/quickstart.sh
#
# The command starts in a copy of the working tree, without its build folders, in a folder with a space in
# its name. With --as-root root runs it and there is no sudo, as in a container. The exit code is the
# command's; it is 77, with the reason, if there can be no room: that takes root, debootstrap, the right to
# mount, and the Debian mirror that this machine's apt uses. In the end the room is removed.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin  # debootstrap and chroot

no_room() {
  echo "no clean room: $*" >&2
  exit 77
}

# What is mounted there nobody else sees, and it ends with the command.
apart() {
  unshare --mount --propagation private --pid --fork --kill-child "$@" </dev/null &
  child=$!
  local status=0; wait "$child" || status=$?; child=; return "$status"
}

base_system() {  # PACKAGES
  local proxy=
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  [[ -z $proxy ]] || export http_proxy=$proxy
  apart debootstrap --variant=minbase ${1:+--include="$1"} bookworm "$room" "$mirror" >"$scratch/log" 2>&1
}

furnish() {
  apt-config dump | grep -E '^Acquire::https?::' >"$room/etc/apt/apt.conf.d/90mirror" || true
  cp -L /etc/resolv.conf /etc/hosts "$room/etc/"
  if [[ $user != root ]]; then
    chroot "$room" useradd --create-home --shell /bin/bash "$user"
    echo "$user ALL=(ALL) NOPASSWD: ALL" >"$room/etc/sudoers.d/$user"
  fi
  mkdir "$room/$tree"
  tar -C "$project" --exclude='./build*' --exclude=./.git --exclude=__pycache__ -c . |
    tar -C "$room/$tree" -x --no-same-owner
  chroot "$room" chown -R "$user:" "/$tree"
}

enter() {  # COMMAND...
  mount -t proc proc "$room/proc"
  mount --rbind /sys "$room/sys"
  mount --rbind /dev "$room/dev"
  mount -t tmpfs tmpfs "$room/dev/shm"
  exec chroot "$room" /usr/bin/env -i HOME="/${tree%/*}" USER="$user" LOGNAME="$user" LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    runuser -u "$user" -- sh -c 'cd "$1" && shift && exec "$@"' sh "/$tree" "$@"
}

clean() {
  trap '' INT TERM HUP
  [[ -z $child ]] || kill -KILL "$child" 2>/dev/null || true
  wait
  rm -rf --one-file-system "$scratch"
}

user=user tree="home/user/power prefill" packages=sudo
if [[ ${1:-} == --as-root ]]; then
  user=root tree="root/power prefill" packages=
  shift
fi
if (($# == 0)); then
  sed -n '2,10s/^# \{0,1\}//p' "$0"
  exit 2
fi

[[ $(id -u) == 0 ]] || no_room "only root can make one"
command -v debootstrap >/dev/null || no_room "there is no debootstrap (apt-get install debootstrap)"
apart sh -c 'mount -t proc proc /proc && mount -t tmpfs tmpfs /mnt' 2>/dev/null ||
  no_room "mounts are forbidden here"
mirror=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
  sed -n 's/^bookworm //p' | head -n 1)
[[ -n $mirror ]] || no_room "this machine's apt has no mirror of Debian 12 (bookworm)"
[[ $mirror != https:* ]] || packages=$packages${packages:+,}ca-certificates

project=$(cd "$(dirname "$0")/../.." && pwd)
child=
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/clean-room.XXXXXX")
room=$scratch/room
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

base_system "$packages" || no_room "debootstrap failed: $(tail -n 3 "$scratch/log")"
furnish
export room user tree
export -f enter
apart bash -euc 'enter "$@"' bash "$@"
