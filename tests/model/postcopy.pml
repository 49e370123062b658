/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Postcopy between Ferry peers, from the moment when the source has sent the package: the commit, the pages, and
 * recovery after any number of cuts. What handover.pml has is not repeated here.
 *
 * What may go wrong, at any moment and in any order: the link is cut (CUTS times), the source gives up waiting
 * (IMPATIENCE times), one of the two processes is killed. Control messages that were not read yet may be lost with the link; pages go
 * beside it, as RDMA writes do, and one that is under way may still land, until the destination has seen to it that it
 * cannot. The operator lets a paused migration go on, sooner or later.
 *
 * Each BROKEN_... is a mistake that Spin must find, so that we know that the check can fail:
 *   BROKEN_RESUME_AFTER_RUN    the source takes the guest back when the link dies after RUN
 *   BROKEN_NO_QUIESCE          the destination tells what it has while writes of the old connection may land
 *   BROKEN_SENT_IS_THERE       after a cut the source believes that what it sent has come
 *   BROKEN_DEAF_WHEN_DONE      the destination stops listening once it sent SHUT
 *   BROKEN_RESUME_WITHOUT_RUN  the destination does not take RESUME for the RUN that was lost
 *   BROKEN_SHUT_AT_END         the destination takes END for the last page, and not what has landed
 */
#define CUTS  2
#define IMPATIENCE 1 /* times that the source takes a link for dead that is not */
#define ALL   3 /* two pages are missing at the switch: bits 1 and 2 */

mtype:record = { PREPARE, READY, ABORT, RUN, RUNNING, FINISH, SHUT, ASK_BITMAP, BITMAP, RESUME, ACK, DONE };
mtype:state = { ACTIVE, DEVICE, HANDOVER, LOST, POSTCOPY, PAUSED, COMPLETED, FAILED };

/* The control connection. */
chan forth = [3] of { mtype:record };
chan back = [3] of { mtype:record, byte };
bool up = true;
bool listening = false;
/* The pages' way: its writes land by themselves, until the destination ends the connection. */
chan wire = [2] of { byte };
bool wired = true;

mtype:state s_state = DEVICE;
bool s_alive = true, s_runs = false;
byte pending = ALL;
byte impatience = IMPATIENCE;

mtype:state d_state = ACTIVE;
bool d_alive = true, d_runs = false;
byte received = 0;

bool committed = false; /* a RUN left the source */

inline send_forth(record) { if :: up -> forth!record :: else fi }
inline write(page) { atomic { if :: wired && nfull(wire) -> wire!page :: !wired fi } }
inline send_back(record, value) { if :: up -> back!record, value :: else fi }

/* ferry_incoming_take_over() */
inline take_over()
{
	atomic {
		d_runs = true;
		d_state = POSTCOPY;
		assert(!s_runs)
	}
}

active proctype Source()
{
	byte page, have;
	{
		atomic { send_forth(PREPARE) }
		if
		:: back?READY(_)
		:: !up || impatience > 0 -> /* cut, refused, too late */
			atomic { send_forth(ABORT); assert(!committed); s_runs = true; assert(!d_runs) }
			atomic { up = false; s_state = FAILED }
			goto end
		fi;
		s_state = POSTCOPY;
		atomic { committed = true; send_forth(RUN) }
		if
		:: back?RUNNING(_)
		:: !up -> goto cut
		:: impatience > 0 -> impatience--; goto cut
		fi;

pages:		/* each pending page once, in any order; urgent or not is all the same here */
		do
		:: atomic { pending & 1 -> page = 1; pending = pending - 1 } write(page)
		:: atomic { pending & 2 -> page = 2; pending = pending - 2 } write(page)
		:: pending == 0 -> break
		:: !up -> goto cut
		:: impatience > 0 -> impatience--; goto cut
		od;
		atomic { send_forth(FINISH) }
		if
		:: back?SHUT(_) ->
			atomic { send_forth(DONE) }
			goto moved
		:: !up -> goto cut
		:: impatience > 0 -> impatience--; goto cut
		fi;

cut:		/* the link is gone, or the destination is taken for dead */
#ifdef BROKEN_RESUME_AFTER_RUN
		atomic { s_runs = true; assert(!d_runs) }
#endif
		atomic { up = false; s_state = PAUSED }
		/* ferry_source_recover() */
		atomic {
			listening ->
			listening = false;
			do
			:: nempty(forth) -> forth?_
			:: nempty(back) -> back?_, _
			:: empty(forth) && empty(back) -> break
			od;
			up = true;
			wired = true;
			forth!ASK_BITMAP
		}
		if
		:: back?BITMAP(have)
		:: !up -> goto cut
		:: impatience > 0 -> impatience--; goto cut
		fi;
#ifndef BROKEN_SENT_IS_THERE
		pending = ALL - have;
#endif
		atomic { send_forth(RESUME) }
		if
		:: back?ACK(_) -> s_state = POSTCOPY; goto pages
		:: !up -> goto cut
		:: impatience > 0 -> impatience--; goto cut
		fi;

moved:		atomic { up = false; s_state = COMPLETED }
end:		skip
	} unless { !s_alive }
}

/* What lands, lands without anybody's doing. A page that comes twice may undo what the guest wrote there. */
active proctype Wire()
{
	byte page;

end:	do
	:: atomic { wire?page ->
			if
			:: d_alive ->
				assert(!(received & page));
				received = received + page
			:: else
			fi
	   }
	od
}

/* Nothing of the old connection can land after it. */
inline quiesce()
{
	atomic {
		wired = false;
		do
		:: nempty(wire) -> wire?_
		:: empty(wire) -> break
		od
	}
}

active proctype Destination()
{
	{
		if
		:: forth?PREPARE
		:: !up -> atomic { d_state = FAILED; goto end }
		fi;
		atomic { d_state = HANDOVER; send_back(READY, 0) }
		if
		:: forth?RUN -> take_over(); atomic { send_back(RUNNING, 0) }
		:: forth?ABORT -> atomic { d_state = FAILED; up = false; goto end }
		:: !up -> d_state = LOST; goto listen
		fi;

serve:		if
		:: forth?FINISH ->
#ifndef BROKEN_SHUT_AT_END
			if
			:: received == ALL
			:: !up -> goto lost
			fi;
#endif
			assert(received == ALL);
			d_state = COMPLETED;
			atomic { send_back(SHUT, 0) }
#ifdef BROKEN_DEAF_WHEN_DONE
			goto end;
#endif
			if
			:: forth?DONE -> goto end
			:: !up -> goto listen
			fi
		:: !up
		fi;

lost:		if
		:: d_state == POSTCOPY -> d_state = PAUSED
		:: else
		fi;

listen:		atomic { up = false }
#ifndef BROKEN_NO_QUIESCE
		quiesce();
#endif
		listening = true;
		!listening;
		if
		:: forth?ASK_BITMAP -> atomic { send_back(BITMAP, received) }
		:: !up -> goto listen
		fi;
		if
		:: forth?RESUME
		:: !up -> goto listen
		fi;
		if
#ifndef BROKEN_RESUME_WITHOUT_RUN
		:: d_state == LOST -> take_over()
#endif
		:: d_state == PAUSED -> d_state = POSTCOPY
		:: else
		fi;
		atomic { send_back(ACK, 0) }
		goto serve;
end:		skip
	} unless { !d_alive }
}

active proctype Network()
{
	byte cuts = CUTS;

	do
	:: atomic { up && cuts > 0 -> up = false; cuts-- }
	:: break
	od
}

/* kill -9 of one side, or of none. */
active proctype Killer()
{
	if
	:: atomic { s_alive = false; s_runs = false; up = false }
	:: atomic { d_alive = false; d_runs = false; up = false; listening = false }
	:: true
	fi
}

/* How everything may end. */
active proctype Judge()
{
	atomic {
		timeout ->
		/* With both sides alive one runs the guest, and if it moved it is whole and both know it. */
		assert(!(s_alive && d_alive) || s_runs + d_runs == 1);
		assert(!(s_alive && d_alive && committed) ||
		       (s_state == COMPLETED && d_state == COMPLETED && received == ALL));
		/* A source that died with pages: the guest is paused at the destination, or it lacks nothing. */
		assert(s_alive || d_state != COMPLETED || received == ALL);
		/* A destination that died: the source has all that it had at the switch, and does not run it. */
		assert(d_alive || !committed || !s_runs)
	}
}

/* Never two, in any state whatever. */
ltl one_guest { [] !(s_runs && d_runs) }
