# What pipeline.mk stands on: a folder of its own, a rule that asks seqres whether a file is still right, and what is made.
# make compares times, seqres compares content: a rule that make finds out of date asks seqres first, and an "up to date"
# only makes the file newer.

# OUT comes from the command line only, as the environment may use this name otherwise. What is made there is on the list
# OUT/.made-by-seqres; a folder that holds files and no list, and a file that is not on the list, are somebody's: they stay.

# $(call quoted,TEXT): TEXT as one word of the shell
quoted = '$(subst ','\'',$(1))'
made   := bash $(call quoted,$(here)/made.sh)

$(if $(ROUNDS),$(error ROUNDS is now one call a round: TAG=2 TEACHER=final, TAG=3 TEACHER=final2))

SEQRES  ?= seqres
OUT     := runs/pipeline
ifneq ($(origin OUT),command line)
override OUT := runs/pipeline
endif

# Before anything is done: can make work with these names, and is the folder ours? `clean` needs no graph, and no such name.
folder := $(OUT)
ifeq ($(MAKECMDGOALS),clean)
  override OUT := .
else
  problem := $(shell $(made) odd $(call quoted,$(OUT)))
  $(if $(problem),$(error OUT: $(problem) (or go there: make -C FOLDER -f …/pipeline.mk OUT=.)))
  problem := $(if $(DATA),$(shell $(made) odd $(call quoted,$(DATA))))
  $(if $(problem),$(error DATA: $(problem) (a link may have another: ln -s FILE data.h5)))
  problem := $(shell $(made) begin $(OUT) 2>&1)
  $(if $(problem),$(error $(problem)))
endif
# A path may have blanks; anything else is a command with its arguments
override SEQRES := $(if $(shell command -v $(call quoted,$(SEQRES))),$(call quoted,$(SEQRES)),$(SEQRES))

# $(call run,stage,variable with its flags,files): with a file there, a dry run tells whether it is still right (0) or
# not (3); --force then replaces it if it is on the list. Anything else that is wrong is told by the run itself.
# Each line that is written says which file it is about, as another stage may be writing at the same time.
SHELL := bash
# Cores of the stages for which all else waits (with -j, and OMP_NUM_THREADS for the others)
CORES ?=
calls = $(if $(CORES),$(if $(filter prepare rec,$(2)),OMP_NUM_THREADS=$(CORES) ))$(SEQRES)
words = $(1) $(if $(filter prepare,$(2)),,--dataset $(D)) $(3) $($(2))
define run
@mkdir -p $(@D)
@set -o pipefail; { \
 if [ -e $@ ] && $(SEQRES) $(words) --out $@ --dry-run >/dev/null 2>&1; then echo "up to date"; \
 else echo "seqres $(strip $(words)) --out $@"; $(calls) $(words) --out $@ $$($(made) take $(OUT) $(@:$(OUT)/%=%)); fi && touch $@; \
} 2>&1 | $(made) label $(@:$(OUT)/%.h5=%)
endef

# $(F)/STAGE holds the flags of a stage and is written anew only when they change (and touched when a recipe does), which
# runs it again. Done while make reads this file, so that `make -n` tells the truth.
F := $(OUT)/.flags
ifneq ($(MAKECMDGOALS),clean)
$(foreach stage,prepare split rec naive paper-first paper-pseudo paper-points paper first pseudo refine resample final \
  all-masks evaluate ellipse visualize,$(shell \
  mkdir -p $(F); cd $(F); echo $(call quoted,$($(stage))) | cmp -s - $(stage) || echo $(call quoted,$($(stage))) > $(stage)))
endif
BOOK ?= $(if $(findstring $() ,$(here)),,$(wildcard $(here)/../stages/configs/*.toml))
$(F)/%: $(BOOK) ; @touch $@

clean:
	$(made) clean $(call quoted,$(folder))

# ------------------------------------------------------------------ what is asked for
# The last round's files and scores. Every file by its name: one that make knows from patterns only would not be made again.
D      := $(or $(DATA),$(OUT)/dataset.h5)
FILES  := $(patsubst %,$(OUT)/%.h5,rec $(addsuffix -RATIO,split first paper-first naive) all-masks \
  $(addsuffix -RATIO,paper-pseudo paper-points paper $(addsuffix $(TAG),pseudo refined points final attention)))
SCORES := $(patsubst %,$(OUT)/eval/%.h5,boxes-only $(addsuffix -$(RATIO),naive paper $(if $(TAG),$(TEACHER)) final$(TAG)) \
  all-masks)
# What tells how long a row was trained
COSTS  := $(subst RATIO,$(RATIO),$(filter-out %/split-RATIO.h5 %/attention$(TAG)-RATIO.h5,$(FILES)))

.DEFAULT_GOAL := report
.PHONY: all report table clean
# make shall delete no file: seqres leaves only whole ones
.PRECIOUS: $(OUT)/dataset.h5 $(OUT)/eval/%.h5 $(subst RATIO,%,$(FILES))

all: $(subst RATIO,$(RATIO),$(FILES)) $(SCORES)

compare = echo; $(SEQRES) evaluate --compare $(SCORES) $(COSTS)
table: $(SCORES)
	@$(compare)

# Looked at last: everything on one page, whose decisions about pseudo masks go into resample-points --decisions
report: all
	@$(compare)
	@echo; $(SEQRES) report $(D) $(subst RATIO,$(RATIO),$(FILES)) $(SCORES) --out $(OUT)/report --quiet $(REPORT_FLAGS)
	@echo; echo "pictures: $$(cd $(OUT) && pwd)/attention$(TAG)-$(RATIO)_figures/index.html"
	@echo "the run:  $$(cd $(OUT) && pwd)/report/index.html"
