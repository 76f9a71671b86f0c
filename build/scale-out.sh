#!/usr/bin/env bash
# A PostgreSQL and a Milvus for the tests of scale-out, both of this checkout's own: nothing outside out/ is touched.
#
#   build/scale-out.sh up     installs what is missing, starts both, waits until they answer
#   build/scale-out.sh test   up, the suite of test/scale-out and the wire tests of galleries, down
#   build/scale-out.sh down   stops both and removes their data
#
# What tests do to them meanwhile:
#
#   build/scale-out.sh milvus-kill | milvus-empty | milvus-start   SIGKILL; its data gone; up again
#   build/scale-out.sh milvus-freeze | milvus-thaw                 SIGSTOP: it takes calls and answers none; SIGCONT
#   build/scale-out.sh postgres-crash                              as after a power cut, and up again
#   build/scale-out.sh postgres-stop | postgres-start              it leaves its callers; up again with its data
#
# PostgreSQL is Debian's (postgresql); Milvus is the standalone server in the wheel `milvus` of PyPI.
# Where either cannot be had the script says so and ends with 3; the suite then says so and skips.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/out/peers/scale-out
venv=$PWD/out/peers/milvus
milvus_version=2.3.5
pg_port=${REID_PG_PORT:-54329}
milvus_port=${REID_MILVUS_PORT:-19539}
url=postgres://reid@127.0.0.1:$pg_port/postgres

missing() {
  printf 'scale-out: %s\n' "$1" >&2
  exit 3
}

# as_postgres COMMAND: PostgreSQL refuses to run as root.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then su postgres -c "$1"; else bash -c "$1"; fi
}

pg_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }

install_postgres() {
  [ -n "$(pg_bin)" ] && return 0
  local sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  printf 'scale-out: Debian package postgresql\n'
  { $sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qy --no-install-recommends postgresql; } \
    >"$root/install.log" 2>&1 || missing 'PostgreSQL cannot be installed: see out/peers/scale-out/install.log'
}

install_milvus() {
  [ -x "$venv/bin/milvus-server" ] && return 0
  printf 'scale-out: milvus %s from PyPI\n' "$milvus_version"
  { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --no-deps "milvus==$milvus_version"; } \
    >"$root/install.log" 2>&1 || { rm -rf "$venv"; missing 'Milvus cannot be installed: see out/peers/scale-out/install.log'; }
}

start_postgres() {
  local bin data=$root/postgres
  bin=$(pg_bin)
  [ -f "$data/data/postmaster.pid" ] && return 0
  rm -rf "$data"
  mkdir -p "$data"
  [ "$(id -u)" != 0 ] || chown postgres "$data"
  as_postgres "$bin/initdb -D $data/data -A trust -U reid -E UTF8" >"$root/initdb.log" 2>&1 || missing 'initdb failed: see out/peers/scale-out/initdb.log'
  launch_postgres
}

launch_postgres() {
  local data=$root/postgres
  as_postgres "$(pg_bin)/pg_ctl -D $data/data -l $data/log -w -o '-p $pg_port -k $data -c listen_addresses=127.0.0.1 -c max_connections=200' start" >/dev/null ||
    missing "PostgreSQL does not start: see $data/log"
}

start_milvus() {
  milvus_runs || rm -rf "$root/milvus"
  launch_milvus
}

milvus_runs() { [ -f "$root/milvus.pid" ] && kill -0 "$(cat "$root/milvus.pid")" 2>/dev/null; }

milvus_port_is_free() {
  "$venv/bin/python3" -c 'import socket, sys; socket.socket().bind(("127.0.0.1", int(sys.argv[1])))' "$milvus_port" 2>/dev/null
}

launch_milvus() {
  milvus_runs && return 0
  # The wheel takes the next port, and says nothing, while connections of a server that was killed hold this one.
  local waited=0
  until milvus_port_is_free; do
    waited=$((waited + 1))
    [ "$waited" -lt 90 ] || missing "port $milvus_port is taken: REID_MILVUS_PORT names another"
    sleep 1
  done
  # What the last one said must not stand for this one.
  rm -f "$root/milvus.log"
  # Strong reads wait for the next time tick: with the default of 200 ms the suite would mostly wait. What Milvus has not
  # flushed yet it would look for in lists of its own, and miss half of it (docs/scale-out.md).
  "$venv/bin/milvus-server" --data "$root/milvus" --proxy-port "$milvus_port" \
    --extra-config proxy.timeTickInterval=20 \
    --extra-config queryNode.segcore.interimIndex.enableIndex=false >"$root/milvus.log" 2>&1 &
  echo $! >"$root/milvus.pid"
  # A test may kill it: the shell need not say so among the failures.
  disown
  local tries=0
  until grep -q 'Ctrl+C to exit' "$root/milvus.log" 2>/dev/null; do
    kill -0 "$(cat "$root/milvus.pid")" 2>/dev/null || missing 'Milvus ended: see out/peers/scale-out/milvus.log'
    tries=$((tries + 1))
    [ "$tries" -lt 180 ] || missing 'Milvus does not answer within three minutes'
    sleep 1
  done
}

up() {
  mkdir -p "$root"
  install_postgres
  install_milvus
  start_postgres
  start_milvus
  printf 'scale-out: REID_TEST_POSTGRES=%s REID_TEST_MILVUS=127.0.0.1:%s\n' "$url" "$milvus_port"
}

down() {
  if [ -f "$root/milvus.pid" ]; then
    signal_milvus CONT
    kill -INT "$(cat "$root/milvus.pid")" 2>/dev/null || true
    for _ in $(seq 20); do
      kill -0 "$(cat "$root/milvus.pid")" 2>/dev/null || break
      sleep 0.5
    done
    kill -KILL "$(cat "$root/milvus.pid")" 2>/dev/null || true
    rm -f "$root/milvus.pid"
  fi
  if [ -f "$root/postgres/data/postmaster.pid" ]; then
    stop_postgres || true
  fi
  rm -rf "$root/milvus" "$root/postgres"
}

stop_postgres() { as_postgres "$(pg_bin)/pg_ctl -D $root/postgres/data -m fast -w stop" >/dev/null; }

# The server itself is a child of the process that the wheel starts.
signal_milvus() {
  local pid
  pid=$(cat "$root/milvus.pid")
  for one in $(pgrep -P "$pid") $pid; do kill "-$1" "$one" 2>/dev/null || true; done
}

kill_milvus() {
  signal_milvus KILL
  rm -f "$root/milvus.pid"
}

crash_postgres() {
  local ctl
  ctl="$(pg_bin)/pg_ctl -D $root/postgres/data"
  as_postgres "$ctl -l $root/postgres/log -m immediate -w restart" >/dev/null 2>&1
}

# A file that stands still for so long fails, ms; without it the run would never end, and not say at which.
file_timeout=900000

# run FILE …: tests on the services that are up.
run() {
  REID_TEST_POSTGRES=$url REID_TEST_MILVUS=127.0.0.1:$milvus_port \
    node --test --test-reporter=./build/quiet-reporter.js --test-timeout=$file_timeout "$@"
}

run_tests() {
  trap down EXIT
  up
  local failed=0 others=()
  # These kill and freeze what all others work with.
  REID_TEST_SCALE_OUT=$PWD/build/scale-out.sh \
    run --test-concurrency=1 dist/test/scale-out/{disturbances,replicas}.test.js || failed=1
  # These mostly wait for Milvus, some seconds for each collection, and bear each other.
  mapfile -t others < <(ls dist/test/scale-out/*.test.js | grep -vE '/(disturbances|replicas)\.test')
  # What the API promises over the wire holds on both engines: the same files once more.
  REID_TEST_ENGINE=scaled run --test-concurrency=3 "${others[@]}" \
    dist/test/serve/{gallery,entries,search,identify,stream-enroll,update-gallery,forget,operations}.wire.test.js \
    dist/test/serve/{limits,deadlines}.wire.test.js \
    dist/test/serve/operations.test.js || failed=1
  return $failed
}

case "${1:-}" in
  up) up ;;
  down) down ;;
  test) run_tests ;;
  milvus-kill) kill_milvus ;;
  milvus-empty) rm -rf "$root/milvus" ;;
  milvus-start) launch_milvus ;;
  milvus-freeze) signal_milvus STOP ;;
  milvus-thaw) signal_milvus CONT ;;
  postgres-crash) crash_postgres ;;
  postgres-stop) stop_postgres ;;
  postgres-start) launch_postgres ;;
  *)
    printf 'usage: build/scale-out.sh up | test | down\n' >&2
    exit 2
    ;;
esac
