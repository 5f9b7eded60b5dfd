/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* What a command line is made of: the table is in main.c; run, help and completion go by it. */

/* What an argument names, for a shell that completes it. */
typedef enum Argument {
        ARGUMENT_OTHER, /* nothing that could be listed */
        ARGUMENT_FILE,
        ARGUMENT_FOLDER,
        ARGUMENT_LICENSE,
        ARGUMENT_RIGHT, /* of the license that is the argument before */
        ARGUMENT_JOB,
        ARGUMENT_OWNER, /* whom the service has licenses of; for root */
        ARGUMENT_USER,  /* of this machine */
        ARGUMENT_PLACE, /* backup or restore */
        ARGUMENT_COMMAND,
        ARGUMENT_BOOLEAN,
} Argument;

#define COUNT_MANY UINT_MAX

typedef struct Command {
        const char *name;
        const char *arguments;
        unsigned minimum, maximum; /* how many arguments */
        Argument kinds[3];         /* of the arguments; the third one holds for all that follow */
        const GOptionEntry *options;
        CommandRun run;
        const char *summary;
        const char *help;
} Command;

/*
 * What can stand in place of the last of words, which may be empty; those before it are what was typed after the
 * name of the program. The first line on stdout says of which kind: "words", "files" or "folders". With "words" each
 * line that follows is one of them and, after a tab, what it is. global are the options of all commands. Says
 * nothing of failures: who presses Tab has asked no question.
 */
Status complete(Ctl *ctl, const Command *commands, unsigned n_commands, const GOptionEntry *global, char **words);
