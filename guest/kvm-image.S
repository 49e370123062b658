/* SPDX-License-Identifier: BSD-2-Clause */
/* The KVM guest's program as bytes: from ferry_kvm_image on, ferry_kvm_image_end behind the last. */
	.section .rodata
	.balign 16
	.globl ferry_kvm_image, ferry_kvm_image_end
	.hidden ferry_kvm_image, ferry_kvm_image_end
ferry_kvm_image:
	.incbin "kvm-program.bin"
ferry_kvm_image_end:
	.section .note.GNU-stack, "", @progbits
