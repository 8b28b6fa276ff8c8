#!/usr/bin/env bash
# Build the images: with Docker if its engine answers, else with buildah, which needs neither an engine nor a registry.
#
#   images/build.sh              localhost/hatchet-operator:dev, localhost/hatchet-worker:dev, localhost/hatchet-fanout:dev
#   images/build.sh --save DIR   and write each as DIR/NAME.tar, for a cluster that pulls from nowhere
#
# ARCH          amd64 or arm64; by default what this machine is. For the other one the builds run its programs, so the
#               kernel has to know an emulator for them: as root on Debian that is installed, elsewhere see binfmt_misc
# TAG           instead of "dev"
# BASE_IMAGE    a Python image to build on; by default python:3.11-slim with Docker, and with buildah a Debian that
#               debootstrap makes once (a minute) and buildah's storage keeps
# PYTHON        the interpreter whose pip downloads wheels for buildah, which builds without network (python3)
# PUBLISHED     versions of the SDK that Hatchet publishes: each gets an image of a worker, localhost/hatchet-published-VERSION,
#               unless it can't be downloaded
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tag=${TAG:-dev}
case $(uname -m) in aarch64 | arm64) own_arch=arm64 ;; *) own_arch=amd64 ;; esac
arch=${ARCH:-$own_arch}
case $arch in
  amd64) machine=x86_64 ;;
  arm64) machine=aarch64 ;;
  *) echo "images: ARCH is $arch; expected amd64 or arm64" >&2; exit 1 ;;
esac
debian_base=localhost/hatchet-python-base:bookworm-$arch
save_dir=
if [ "${1:-}" = --save ]; then save_dir=${2:?--save needs a folder}; mkdir -p "$save_dir"; fi

say() { echo "images: $*" >&2; }

install_builder() {
  command -v buildah > /dev/null && command -v debootstrap > /dev/null && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    say "neither a Docker engine nor buildah and debootstrap are here; install one of them"
    exit 1
  fi
  say "installing buildah and debootstrap"
  apt-get -oDPkg::Lock::Timeout=600 update -qq
  DEBIAN_FRONTEND=noninteractive apt-get -oDPkg::Lock::Timeout=600 install -y -qq --no-install-recommends buildah debootstrap > /dev/null
}

# Have the kernel run programs of the other architecture: without that, not even a package could be set up.
emulate() {
  local known=/proc/sys/fs/binfmt_misc
  [ "$arch" != "$own_arch" ] || return 0
  [ ! -e "$known/qemu-$machine" ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    say "installing an emulator of $machine"
    command -v "qemu-$machine-static" > /dev/null || {
      apt-get -oDPkg::Lock::Timeout=600 update -qq
      DEBIAN_FRONTEND=noninteractive apt-get -oDPkg::Lock::Timeout=600 install -y -qq --no-install-recommends qemu-user-static > /dev/null
    }
    [ -e "$known/register" ] || mount -t binfmt_misc binfmt_misc "$known"
    [ -e "$known/qemu-$machine" ] || cat "/usr/lib/binfmt.d/qemu-$machine.conf" > "$known/register"
  fi
  [ -e "$known/qemu-$machine" ] || { say "this machine can't run programs of $machine: register an emulator with binfmt_misc"; exit 1; }
}

make_debian_base() {
  buildah inspect --type image "$debian_base" > /dev/null 2>&1 && return
  say "making the base image with debootstrap"
  local rootfs container
  rootfs=$(mktemp -d)
  debootstrap --arch="$arch" --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$rootfs" > "$rootfs.log" 2>&1 ||
    { tail -n 20 "$rootfs.log" >&2; exit 1; }
  rm -rf "$rootfs"/var/{cache/apt,lib/apt/lists,log}/* "$rootfs"/usr/share/{doc,man,locale,info}/* "$rootfs"/dev/*
  find "$rootfs" -name __pycache__ -prune -exec rm -rf {} +
  chroot "$rootfs" python3 -m compileall -q /usr/lib/python3.11 > /dev/null || true  # lib2to3's tests are no Python 3
  container=$(buildah from --arch "$arch" scratch)
  buildah add --quiet "$container" "$rootfs" / > /dev/null
  buildah config --arch "$arch" --env PATH=/usr/local/bin:/usr/bin:/bin --env LANG=C.UTF-8 --cmd python3 "$container"
  buildah commit --quiet --rm "$container" "$debian_base" > /dev/null
  rm -rf "$rootfs" "$rootfs.log"
}

# Everything that the builds install, and setuptools, which they build our two distributions with. Wheels for any glibc
# up to the base's (2.36) will do; pip on another machine has to be told each.
download_wheels() {
  local wanted ours platforms
  wanted="$arch $(cat constraints.txt sdk/pyproject.toml operator/pyproject.toml images/build.sh | sha256sum)"
  platforms=()
  [ "$arch" = "$own_arch" ] || platforms=(--platform "manylinux2014_$machine" $(printf -- "--platform manylinux_2_%s_$machine " {17..36}))
  [ "$(cat images/wheels/.complete 2> /dev/null)" != "$wanted" ] || return 0
  say "downloading wheels"
  rm -f images/wheels/*.whl images/wheels/.complete
  ours=$(mktemp -d)
  "${PYTHON:-python3}" -m pip wheel --quiet --no-deps --wheel-dir "$ours" ./sdk ./operator
  "${PYTHON:-python3}" -m pip download --quiet --dest images/wheels --constraint constraints.txt --find-links "$ours" \
    --python-version 3.11 "${platforms[@]}" --only-binary :all: 'hatchet-operator[tracing]' 'hatchet-operator-sdk[payloads,metrics,tracing]' setuptools
  rm -rf "$ours" images/wheels/hatchet_operator*
  echo "$wanted" > images/wheels/.complete
}

# What an SDK of Hatchet and its dependencies consist of, kept beside the programs of the tests' cluster.
fetch_published() {
  local folder=$cache/published-$1
  [ ! -e "$folder/.complete" ] || return 0
  say "downloading hatchet-sdk $1"
  rm -rf "$folder"
  "${PYTHON:-python3}" -m pip install --quiet --no-compile --target "$folder/packages" --python-version 3.11 \
    --only-binary :all: "hatchet-sdk==$1" && touch "$folder/.complete"
}

# One build at a time: another one's would get the same names between our building and saving.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hatchet-operator-e2e
mkdir -p "$cache"
if command -v flock > /dev/null; then
  exec 9> "$cache/images.lock"
  flock --nonblock 9 || { say "waiting for another build"; flock 9; }
fi

if docker info > /dev/null 2>&1; then
  build() { docker build --quiet --platform "linux/$arch" "$@" > /dev/null; }
  save() { docker save --output "$2" "$1"; }
  size() { docker image ls --format '{{.Size}}' "$1"; }
  arguments=(${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"})
else
  build() { buildah build --quiet --layers --isolation chroot --pull=false --arch "$arch" "$@" > /dev/null; }
  save() { rm -f "$2"; buildah push --quiet "$1" "docker-archive:$2:$1"; }
  size() { buildah images --format '{{.Size}}' "$1"; }
  install_builder
  emulate
  [ -n "${BASE_IMAGE:-}" ] || make_debian_base
  download_wheels
  arguments=(--build-arg "BASE_IMAGE=${BASE_IMAGE:-$debian_base}" --build-arg PIP_NO_INDEX=1)
fi

build "${arguments[@]}" --file images/operator/Dockerfile --tag "localhost/hatchet-operator:$tag" .
build "${arguments[@]}" --file images/worker/Dockerfile --tag "localhost/hatchet-worker:$tag" .
build --build-arg "BASE=localhost/hatchet-worker:$tag" --tag "localhost/hatchet-fanout:$tag" examples/fanout

names=(operator worker fanout)
for version in ${PUBLISHED:-}; do
  fetch_published "$version" || { say "hatchet-sdk $version could not be downloaded: it gets no image"; continue; }
  build "${arguments[@]}" --file tests/e2e/published/Dockerfile --tag "localhost/hatchet-published-$version:$tag" "$cache/published-$version"
  names+=("published-$version")
done

for name in "${names[@]}"; do
  image=localhost/hatchet-$name:$tag
  say "$image, $(size "$image")"
  [ -z "$save_dir" ] || save "$image" "$save_dir/$name.tar"
done
