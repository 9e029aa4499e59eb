#!/bin/bash
# Sees to the system packages of one purpose, by apt where that is possible, else says what is missing.
#   scripts/system_packages.sh run     what `make setup` needs: clang and libbpf's headers to build, libbpf and venv to run
#   scripts/system_packages.sh demo    the servers of the demo's shop
#   scripts/system_packages.sh fidelity    the runtimes and proxies of `make fidelity`
#   scripts/system_packages.sh test    the real servers and clients, and QEMU, that `make test` and `make bench` start
# Asks only for what is absent, so the second time costs nothing.
set -euo pipefail

have_library() { ldconfig -p | grep -F "$1" >/dev/null; }
have_file() { compgen -G "$1" >/dev/null; }

missing=()
# want PACKAGE TEST...: note the package if the test fails
want() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

want_run() {
  want clang command -v clang
  want libbpf-dev test -e /usr/include/bpf/bpf_helpers.h
  want libbpf1 have_library libbpf.so.1
  want python3 command -v python3
  want python3-venv python3 -c 'import venv, ensurepip'
}

want_demo() {
  local command
  for command in nginx redis-server openssl; do want "$command" command -v "$command"; done
  want postgresql have_file '/usr/lib/postgresql/*/bin/initdb'
}

want_test() {
  local command_of=(
    nginx:nginx redis-server:redis-server redis-cli:redis-tools psql:postgresql mariadbd:mariadb-server
    mariadb:mariadb-client dnsmasq:dnsmasq-base dig:bind9-dnsutils curl:curl wrk:wrk openssl:openssl
    qemu-system-x86_64:qemu-system-x86 busybox:busybox-static kmod:kmod cpio:cpio bpftool:bpftool ip:iproute2 nft:nftables
    cc:gcc make:make git:git cgi-fcgi:libfcgi-bin zstd:zstd
    prometheus:prometheus chromium:chromium)
  local pair
  for pair in "${command_of[@]}"; do want "${pair#*:}" command -v "${pair%%:*}"; done
  want postgresql have_file '/usr/lib/postgresql/*/bin/initdb'
  want php-fpm have_file '/usr/sbin/php-fpm*'
  want libc6-dev test -e /usr/include/stdio.h
}

want_fidelity() {
  local pair
  for pair in nginx:nginx mariadbd:mariadb-server openssl:openssl haproxy:haproxy node:nodejs \
    javac:default-jdk-headless puma:puma; do
    want "${pair#*:}" command -v "${pair%%:*}"
  done
  want php-fpm have_file '/usr/sbin/php-fpm*'
  want php-mysql have_file '/usr/lib/php/*/mysqli.so'
}

# what only the rows beyond the quick subset need
want_matrix() {
  local pair
  want postgresql have_file '/usr/lib/postgresql/*/bin/initdb'
  for pair in apache2:apache2 caddy:caddy varnishd:varnish redis-server:redis-server mvn:maven mcs:mono-mcs npm:npm \
    mono:mono-runtime; do
    want "${pair#*:}" command -v "${pair%%:*}"
  done
  want libmono-system-core4.0-cil have_file '/usr/lib/mono/4.5/System.Core.dll'
  want cargo-web have_cargo
}
have_cargo() { PATH=$PATH:$HOME/.cargo/bin command -v cargo; }

PATH=$PATH:/usr/sbin:/sbin
case ${1:-} in
run) want_run ;;
demo) want_demo ;;
test) want_run && want_test && want_fidelity ;;
fidelity) want_run && want_fidelity && want_matrix ;;
*)
  echo "usage: $0 run|demo|test|fidelity" >&2
  exit 2
  ;;
esac
[[ ${#missing[@]} -eq 0 ]] && exit 0

mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
if ! command -v apt-get >/dev/null; then
  echo "error: missing on this system (Debian's names): ${missing[*]}" >&2
  echo "  Fedora: dnf install clang libbpf-devel libbpf python3" >&2
  exit 1
fi
if [[ $(id -u) -ne 0 ]]; then
  echo "error: missing: ${missing[*]}. As root: apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "==> installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Servers are started by the tests and the demo themselves, on their own ports: nothing is to start at installation.
policy=/usr/sbin/policy-rc.d
if [[ $1 != run && ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
  trap 'rm -f $policy' EXIT
fi
install=(apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}")
"${install[@]}" >/dev/null 2>&1 || { apt-get update -qq && "${install[@]}" >/dev/null; }
