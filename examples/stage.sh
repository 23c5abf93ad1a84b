# Sourced by the `run` of each example: sets the stage and clears it again.
#
# Broker, node and functions are processes of this script's own, on free ports, in a directory of their own under TMPDIR; at its end each is
# ended by its process id and the directory is gone. A missing program is exit code 77, said with how to get it; a wrong outcome is 1.
#
#   FOGFUN           a ready `fogfun` program instead of the one that cargo builds
#   FOGFUN_EXAMPLES  a directory of ready example programs instead of those that cargo builds
#   FOGFUN_KEEP=1    keeps the directory, with what every process said

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
stage=$(mktemp -d "${TMPDIR:-/tmp}/fogfun-example-XXXXXX")
declare -A processes=()
# Nothing is left among the sources.
export PYTHONDONTWRITEBYTECODE=1

# How long anything may take on a busy machine, in seconds.
PATIENCE=60
MISSING=77

clear_stage() {
    local code=$? name
    for name in "${!processes[@]}"; do kill_process "$name" KILL; done
    if [ "${FOGFUN_KEEP:-}" = 1 ]; then
        echo "kept: $stage" >&2
    else
        rm -rf "$stage"
    fi
    exit "$code"
}
trap clear_stage EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "$*"; }

fail() {
    local log
    printf '\nWRONG: %s\n' "$*" >&2
    for log in "$stage"/*.log; do
        [ -s "$log" ] && printf -- '--- the end of %s\n%s\n' "${log##*/}" "$(tail -n 12 "$log")" >&2
    done
    exit 1
}

# need PROGRAM HOW-TO-GET-IT: prints where it is; brokers live where not everybody's PATH leads.
need() {
    local found
    found=$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1") && { printf '%s\n' "$found"; return; }
    printf '%s is missing: %s\n' "$1" "$2" >&2
    exit "$MISSING"
}

# wait_until WHAT COMMAND…: looks again and again until the command succeeds.
wait_until() {
    local what=$1 end=$((SECONDS + PATIENCE))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || fail "waited $PATIENCE s in vain: $what"
        sleep 0.05
    done
}

listens() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the ports that the system gives to clients.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        listens "$port" || break
    done
    printf '%s\n' "$port"
}

# start NAME COMMAND…: in the background; what it says is in NAME.log.
start() {
    local name=$1
    shift
    "$@" </dev/null >>"$stage/$name.log" 2>&1 &
    processes[$name]=$!
}

runs() { kill -0 "${processes[$1]:?}" 2>/dev/null; }

# kill_process NAME [SIGNAL], and wait until it is gone.
kill_process() {
    kill -s "${2:-KILL}" "${processes[$1]}" 2>/dev/null || true
    wait "${processes[$1]}" 2>/dev/null || true
    unset "processes[$1]"
}

# A broker that keeps sessions and does not drop; BROKER is where.
start_broker() {
    local mosquitto port user=
    mosquitto=$(need mosquitto "apt install mosquitto") || exit
    need mosquitto_pub "apt install mosquitto-clients" >/dev/null || exit
    port=$(free_port)
    # Started as root it would become the user `mosquitto`, who may not write to our directory.
    [ "$(id -u)" != 0 ] || user="user root"
    mkdir -p "$stage/broker"
    cat >"$stage/broker.conf" <<END
listener $port 127.0.0.1
allow_anonymous true
persistence true
persistence_location $stage/broker/
max_inflight_messages 1000
max_queued_messages 100000
set_tcp_nodelay true
log_type error
log_type warning
log_type notice
log_type subscribe
log_dest stderr
$user
END
    start broker "$mosquitto" -c "$stage/broker.conf"
    export BROKER=127.0.0.1:$port
    BROKER_PORT=$port
    wait_until "the broker listens" listens "$port"
}

# build KIND NAME: prints where the program is that cargo builds: `build bin fogfun`, `build example payment`.
build() {
    local ready=
    case $1 in
    bin) ready=${FOGFUN:-} ;;
    example) ready=${FOGFUN_EXAMPLES:+$FOGFUN_EXAMPLES/$2} ;;
    esac
    if [ -n "$ready" ]; then
        printf '%s\n' "$ready"
        return
    fi
    need cargo "install Rust with https://rustup.rs" >/dev/null || exit
    say "building $2 (the first time takes minutes)" >&2
    (cd "$root" && cargo build --quiet --locked "--$1" "$2") || exit
    case $1 in
    bin) printf '%s\n' "$target/debug/$2" ;;
    example) printf '%s\n' "$target/debug/examples/$2" ;;
    esac
}

# start_node PROGRAM: with this example's module.yaml. Again after kill_process, it goes on where it was.
starts=0
start_node() {
    starts=$((starts + 1))
    start node "$1" run "$here/module.yaml" --data "$stage/data"
    wait_until "the node is ready" node_is_ready
}

node_is_ready() {
    runs node || fail "the node ended"
    has_lines "$stage/node.log" "$starts" '^ready$'
}

# no_dead_letters PROGRAM: asks the running node.
no_dead_letters() {
    "$1" dlq list --json --data "$stage/data" >"$stage/dead-letters" || fail "dlq list does not answer"
    grep -Eq '"letters": ?\[\]' "$stage/dead-letters" || fail "there are dead letters: $(cat "$stage/dead-letters")"
}

# listen NAME FILTER…: records come to NAME.out, a line each: the topic, a blank, the payload.
listen() {
    local name=$1 filter filters=()
    shift
    for filter in "$@"; do filters+=(-t "$filter"); done
    mosquitto_sub -p "$BROKER_PORT" -i "$name" -c -q 2 -v "${filters[@]}" </dev/null >"$stage/$name.out" 2>"$stage/$name.log" &
    processes[$name]=$!
    is_subscribed "$name" "${!#}"
}

# is_subscribed CLIENT FILTER: waits until the broker has said so. What is published earlier goes nowhere.
is_subscribed() {
    # shellcheck disable=SC2016  # awk's variables, not the shell's
    wait_until "$1 has subscribed to $2" awk -v client="$1" -v filter="$2" \
        'index($0, " " client " ") && substr($0, length($0) - length(filter) + 1) == filter { found = 1 } END { exit !found }' \
        "$stage/broker.log"
}

# publish TOPIC: each line of standard input, exactly once.
publish() { mosquitto_pub -p "$BROKER_PORT" -q 2 -l -t "$1"; }

# has_lines FILE COUNT [PATTERN]
has_lines() { (($(grep -c -e "${3:-}" "$1") >= $2)); }

# python_with_statefun: prints a Python that has StateFun's SDK; fetched once, kept under target/.
python_with_statefun() {
    local python directory=$target/tmp/sdk-python
    if ! "$directory/bin/python" -c 'import statefun' 2>/dev/null; then
        python=$(need python3 "apt install python3 python3-venv") || exit
        say "fetching apache-flink-statefun 3.3.0 for Python into $directory" >&2
        { "$python" -m venv --clear "$directory" &&
            "$directory/bin/python" -m pip install --quiet 'apache-flink-statefun==3.3.0' 'protobuf<4'; } >&2 || {
            say "the Python SDK is missing: pip could not fetch apache-flink-statefun==3.3.0 (apt install python3-venv)" >&2
            exit "$MISSING"
        }
    fi
    printf '%s\n' "$directory/bin/python"
}

# javascript_modules: prints the NODE_PATH of StateFun's SDK; fetched once, kept under target/.
javascript_modules() {
    local npm directory=$target/tmp/sdk-javascript
    if [ ! -d "$directory/node_modules/apache-flink-statefun" ]; then
        npm=$(need npm "apt install nodejs npm") || exit
        say "fetching apache-flink-statefun 3.3.0 for JavaScript into $directory" >&2
        mkdir -p "$directory"
        "$npm" install --silent --no-save --prefix "$directory" apache-flink-statefun@3.3.0 >&2 || {
            say "the JavaScript SDK is missing: npm could not fetch apache-flink-statefun@3.3.0" >&2
            exit "$MISSING"
        }
    fi
    printf '%s\n' "$directory/node_modules"
}
