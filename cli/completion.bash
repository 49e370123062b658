# SPDX-License-Identifier: BSD-2-Clause
# Completes the command line of ferry(1) in bash.

_ferry_uris()
{
	local cur=$1

	case $cur in
	unix:* | file:*)
		mapfile -t COMPREPLY < <(compgen -f -P "${cur%%:*}:" -- "${cur#*:}")
		;;
	*)
		mapfile -t COMPREPLY < <(compgen -W "rdma: tcp: unix: fd: exec: file:" -- "$cur")
		compopt -o nospace 2>/dev/null
		;;
	esac
}

# NAME=VALUE of --set.
_ferry_setting()
{
	local cur=$1
	local switches="events return-path pause-before-switchover verify-ram rdma-pin-all rdma-require
		postcopy-ram rdma-postcopy-pull xbzrle compress zero-blocks auto-converge multifd
		zero-copy-send dirty-limit mapped-ram x-ignore-shared late-block-activate
		validate-uuid compress-wait-thread direct-io cpu-throttle-tailslow"
	local others="bandwidth-group group-bandwidth max-bandwidth downtime-limit rdma-queue-pairs rdma-pin-limit max-postcopy-bandwidth
		avail-switchover-bandwidth xbzrle-cache-size compress-level compress-threads
		decompress-threads multifd-channels multifd-compression multifd-zlib-level
		multifd-zstd-level throttle-trigger-threshold cpu-throttle-initial
		cpu-throttle-increment max-cpu-throttle x-vcpu-dirty-limit-period vcpu-dirty-limit
		announce-initial announce-max announce-rounds announce-step tls-creds tls-hostname
		tls-authz"

	case $cur in
	multifd-compression=*)
		mapfile -t COMPREPLY < <(compgen -P "${cur%%=*}=" -W "none zlib zstd" -- "${cur#*=}")
		;;
	*=*)
		[[ " ${switches//[[:space:]]/ } " == *" ${cur%%=*} "* ]] || return
		mapfile -t COMPREPLY < <(compgen -P "${cur%%=*}=" -W "on off" -- "${cur#*=}")
		;;
	*)
		mapfile -t COMPREPLY < <(compgen -S = -W "$switches $others" -- "$cur")
		compopt -o nospace 2>/dev/null
		;;
	esac
}

# The value of the option before the cursor. Fails where it has none.
_ferry_value()
{
	local prev=$1 cur=$2

	case $prev in
	--qmp)
		mapfile -t COMPREPLY < <(compgen -f -P unix: -- "${cur#unix:}")
		;;
	--incoming)
		_ferry_uris "$cur"
		[[ defer == "$cur"* ]] && COMPREPLY+=(defer)
		;;
	--workload)
		mapfile -t COMPREPLY < <(compgen -W "idle sweep: random: hotset:" -- "$cur")
		;;
	--fill)
		mapfile -t COMPREPLY < <(compgen -W "pages random zero sparse" -- "$cur")
		;;
	--log)
		mapfile -t COMPREPLY < <(compgen -W "off warning message info debug" -- "$cur")
		;;
	--backing)
		mapfile -t COMPREPLY < <(compgen -W "memfd anon hugetlb" -f -- "$cur")
		;;
	--dirty-source)
		mapfile -t COMPREPLY < <(compgen -W "auto wp-async wp-fault soft-dirty kvm-log" -- "$cur")
		;;
	--set)
		_ferry_setting "$cur"
		;;
	--listen)
		mapfile -t COMPREPLY < <(compgen -W "rdma: tcp:" -- "$cur")
		compopt -o nospace 2>/dev/null
		;;
	--json | --report)
		[ "$command" = bench ] || return 1
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--ram | --vcpus | --seed | --beat-interval | --peer | --repeat | --seconds | --sizes | --queue-pairs | --connections | --depth | --faults | --multifd | \
		--source | --hot-set | --rate | --downtime-limit | --transport | --bandwidth | --timeout | --only | --channels | --content)
		;;
	*)
		return 1
		;;
	esac
	return 0
}

_ferry_options()
{
	case $1 in
	run)
		echo "--help --ram --kvm --process --vcpus --workload --fill --seed --uuid --backing --prealloc" \
			"--dirty-source --beat-interval --qmp --incoming --paused --log --set"
		;;
	migrate) echo "--help --qmp --set --postcopy --dry-run --resume --json --quiet" ;;
	status) echo "--help --qmp --json --prometheus" ;;
	ctl) echo "--help --qmp" ;;
	doctor) echo "--help --peer --json" ;;
	"bench link")
		echo "--help --listen --peer --ram --repeat --seconds --sizes --queue-pairs --connections --depth --pin-all" \
			"--ib-write-bw --json --report"
		;;
	"bench guest")
		echo "--help --listen --peer --source --softroce --ram --hot-set --rate --downtime-limit --transport --bandwidth" \
			"--kvm --repeat --timeout --fresh --no-frontier --json --report"
		;;
	"bench fault") echo "--help --listen --peer --ram --faults --repeat --json --report" ;;
	"bench compare")
		echo "--help --listen --peer --source --softroce --ram --repeat --fresh --only --channels --content --zero-copy" \
			"--seconds --json --report"
		;;
	"bench report") echo "--help --report" ;;
	inspect) echo "--help --json" ;;
	receive) echo "--help --multifd" ;;
	*) echo "--help" ;;
	esac
}

_ferry()
{
	local cur=${COMP_LINE:0:COMP_POINT} prev command=${COMP_WORDS[1]-}
	local words="run migrate status ctl inspect receive send bench doctor help --help --version"

	# Words by blanks alone: bash would cut them at colons and equals signs too.
	read -ra COMP_WORDS <<<"$cur"
	[[ $cur == *' ' ]] && COMP_WORDS+=("")
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]-}
	COMPREPLY=()
	if [ "$COMP_CWORD" -le 1 ] || [ "$command" = help ]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	elif ! _ferry_value "$prev" "$cur"; then
		case $command:$cur in
		bench:-*)
			[ -n "${COMP_WORDS[2]}" ] && [[ ${COMP_WORDS[2]} != -* ]] && command="bench ${COMP_WORDS[2]}"
			mapfile -t COMPREPLY < <(compgen -W "$(_ferry_options "$command")" -- "$cur")
			;;
		*:-*) mapfile -t COMPREPLY < <(compgen -W "$(_ferry_options "$command")" -- "$cur") ;;
		migrate:*) _ferry_uris "$cur" ;;
		bench:*) mapfile -t COMPREPLY < <(compgen -W "link guest fault compare report" -- "$cur") ;;
		ctl:*)
			mapfile -t COMPREPLY < <(compgen -W "migrate migrate-incoming migrate_cancel migrate-continue
				migrate-set-capabilities query-migrate-capabilities
				migrate-set-parameters query-migrate-parameters
				migrate_set_speed migrate_set_downtime
				migrate-set-cache-size query-migrate-cache-size
				query-migrate query-rdma migrate-start-postcopy
				migrate-pause migrate-recover announce-self ferry-rehearse ferry-resolve query-status
				stop cont getfd closefd query-version query-commands
				query-events guest-check query-guest quit" -- "$cur")
			;;
		inspect:* | receive:* | send:*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		esac
	fi
	# Readline replaces only what follows the last colon or equals sign.
	local cut=${cur%"${cur##*[:=]}"} i
	for i in "${!COMPREPLY[@]}"; do
		COMPREPLY[i]=${COMPREPLY[i]#"$cut"}
	done
}
complete -F _ferry ferry
