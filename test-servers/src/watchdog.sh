# Ends a server and removes its files when the process that owns it is gone, in whatever way it went.
#
# Arguments: 1 the server's own directory, removed in the end; 2 a data directory elsewhere, kept ("" for none);
# 3 the signal that ends the server quickly.
# Standard input: a pipe that the owner alone holds open. Its end of file is the owner's end.
home=$1 data=$2 quickly=$3

# The owner's terminal and its test runner signal whole groups; what they mean is the owner, not its watchdog.
trap '' HUP INT TERM

# The server's processes keep the working directory they were started in (see processes.rs).
living() {
    find /proc/[0-9]*/cwd -maxdepth 0 \( -lname "$home" -o -lname "$home/*" \) -printf '%h\n' 2>/dev/null
    if [ -n "$data" ]; then
        for process in $(find /proc/[0-9]*/cwd -maxdepth 0 -lname "$data" -printf '%h\n' 2>/dev/null); do
            case $(readlink "$process/exe") in */postgres) echo "$process" ;; esac
        done
    fi
}

signal_all() {
    for process in $(living); do
        kill -"$1" "${process#/proc/}" 2>/dev/null
    done
}

read -r _

signal_all CONT # a frozen process would not hear of a gentler signal than KILL
signal_all "$quickly"
tries=0
while [ -n "$(living)" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || signal_all KILL
    sleep 0.02
done
rm -rf -- "$home"
