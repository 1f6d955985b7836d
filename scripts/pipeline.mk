# The whole method as a graph of files. Each rule is one call of seqres with a recipe of stages/configs/pipeline-SCALE.toml.
#
#   make -f scripts/pipeline.mk SCALE=smoke OUT=runs/smoke             build everything, show the table
#   make -f scripts/pipeline.mk DATA=refcoco.h5 RATIO=0.01 OUT=runs/refcoco
#   make -f scripts/pipeline.mk RES_FLAGS='--lr 0.001' OUT=runs/slow   flags of a stage, after its recipe (see below)
#   make -f scripts/pipeline.mk TAG=2 TEACHER=final OUT=runs/smoke     then: label once more, by what learned from labels
#
# A second call does nothing. Another RATIO (or other flags of one stage) runs only what depends on it, and a deleted
# file is made again. make compares times, seqres compares content: a rule that make finds out of date asks seqres
# first, and an "up to date" only makes the file newer.

# OUT comes from the command line only, as the environment may use this name otherwise. What is made there is on the list
# OUT/.made-by-seqres; a folder that holds files and no list, and a file that is not on the list, are somebody's: they stay.

# $(call quoted,TEXT): TEXT as one word of the shell
quoted = '$(subst ','\'',$(1))'
here   := $(shell dirname -- $(call quoted,$(strip $(MAKEFILE_LIST))))
made   := bash $(call quoted,$(here)/made.sh)

SEQRES  ?= seqres
OUT     := runs/pipeline
ifneq ($(origin OUT),command line)
override OUT := runs/pipeline
endif
SCALE   ?= smoke
# Share of training referents whose mask may be seen
RATIO   ?= $(or $(if $(filter tiny,$(SCALE)),0.3),$(if $(filter standard,$(SCALE)),0.01),0.05)
SEED    ?= 0
# An existing dataset artifact instead of RefShapes, and the preset of train-rec
DATA    ?=
MODEL   ?= refshapes-small
# Which model labels, what the files of its round carry (pseudo2-, final2-RATIO …), what of it is kept: all, encoder, none
TEACHER ?= first
TAG     ?=
KEEP    ?= $(if $(filter tiny,$(SCALE)),none,all)
$(if $(ROUNDS),$(error ROUNDS is now one call a round: TAG=2 TEACHER=final, TAG=3 TEACHER=final2))

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

# What each stage is called with, beside its files. The recipes' rates are those of the small model, and RefShapes lie at
# any angle, which other pictures do not.
R      := --config pipeline-$(SCALE)
rate   := $(if $(filter-out refshapes-small,$(MODEL)),--lr 0.001)
method := $(rate) $(if $(DATA),--rotate 0) --seed $(SEED)
prepare   = $(R) --seed $(SEED) $(PREPARE_FLAGS)
split     = --seed $(SEED)
rec       = $(R) --model $(MODEL) $(rate) --seed $(SEED) $(REC_FLAGS)
naive     = $(R):naive $(rate) --seed $(SEED) $(NAIVE_FLAGS)
first     = $(R):first $(method) $(RES_FLAGS)
full      = $(R):full $(method) $(FULL_FLAGS)
pseudo    = $(R) $(PSEUDO_FLAGS)
refine    = $(REFINE_FLAGS)
resample  = $(R) $(RESAMPLE_FLAGS)
final     = $(R):final $(method) $(if $(filter-out none,$(KEEP)),--init-keep $(KEEP)) $(FINAL_FLAGS)
evaluate  = $(R) $(EVALUATE_FLAGS)
visualize = $(R) $(VISUALIZE_FLAGS)

# $(call run,stage,variable with its flags,files): with a file there, a dry run tells whether it is still right (0) or
# not (3); --force then replaces it if it is on the list. Anything else that is wrong is told by the run itself.
words = $(1) $(if $(filter prepare,$(2)),,--dataset $(D)) $(3) $($(2))
define run
@mkdir -p $(@D)
@if [ -e $@ ] && $(SEQRES) $(words) --out $@ --dry-run >/dev/null 2>&1; then echo "up to date: $@"; \
 else echo; echo "seqres $(strip $(words)) --out $@"; $(SEQRES) $(words) --out $@ $$($(made) take $(OUT) $(@:$(OUT)/%=%)); fi && touch $@
endef

# $(F)/STAGE holds the flags of a stage and is written anew only when they change (and touched when a recipe does), which
# runs it again. Done while make reads this file, so that `make -n` tells the truth.
F := $(OUT)/.flags
ifneq ($(MAKECMDGOALS),clean)
$(foreach stage,prepare split rec naive first full pseudo refine resample final evaluate visualize,$(shell \
  mkdir -p $(F); cd $(F); echo $(call quoted,$($(stage))) | cmp -s - $(stage) || echo $(call quoted,$($(stage))) > $(stage)))
endif
BOOK ?= $(if $(findstring $() ,$(here)),,$(wildcard $(here)/../stages/configs/*.toml))
$(F)/%: $(BOOK) ; @touch $@

# The last round's files and scores. Every file by its name: one that make knows from patterns only would not be made again.
D      := $(or $(DATA),$(OUT)/dataset.h5)
FILES  := $(patsubst %,$(OUT)/%.h5,rec split-RATIO naive-RATIO first-RATIO full \
  $(addsuffix $(TAG)-RATIO,pseudo refined points final attention))
SCORES := $(patsubst %,$(OUT)/eval/%.h5,rec $(addsuffix -$(RATIO),naive first $(if $(TAG),$(TEACHER)) final$(TAG)) full box-full)
.DEFAULT_GOAL := report
.PHONY: all report table clean
# Two trainings at once would only share the cores; and make shall delete no file: seqres leaves only whole ones.
.NOTPARALLEL:
.PRECIOUS: $(OUT)/dataset.h5 $(OUT)/eval/%.h5 $(subst RATIO,%,$(FILES))

# ------------------------------------------------------------------ the graph

ifndef DATA
$(OUT)/dataset.h5: $(F)/prepare
	$(call run,prepare-data,prepare)
endif

# 1. Boxes: one model for everything below
$(OUT)/rec.h5: $(D) $(F)/rec
	$(call run,train-rec,rec)

# 2. Which masks may be seen; splits of one seed contain each other
$(OUT)/split-%.h5: $(D) $(F)/split
	$(call run,split-masks,split,--ratio $*)

# 3. Few masks: plain fine-tuning, and the method's first pass
$(OUT)/naive-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(F)/naive
	$(call run,train-res,naive,--split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5)
$(OUT)/first-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(F)/first
	$(call run,train-res,first,--split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5)

# 4. Contours for everything known by its box only, refined along edges of colour; keep and resample what agrees with the box
$(OUT)/pseudo$(TAG)-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/$(TEACHER)-%.h5 $(F)/pseudo
	$(call run,pseudo-label,pseudo,--split $(OUT)/split-$*.h5 --model $(OUT)/$(TEACHER)-$*.h5)
$(OUT)/refined$(TAG)-%.h5: $(D) $(OUT)/pseudo$(TAG)-%.h5 $(F)/refine
	$(call run,refine-masks,refine,--pseudo $(OUT)/pseudo$(TAG)-$*.h5)
$(OUT)/points$(TAG)-%.h5: $(D) $(OUT)/refined$(TAG)-%.h5 $(F)/resample
	$(call run,resample-points,resample,--pseudo $(OUT)/refined$(TAG)-$*.h5)

# 5. Second pass, from the box model or going on from the first: masks and pseudo points
$(OUT)/final$(TAG)-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(OUT)/points$(TAG)-%.h5 $(F)/final
	$(call run,train-res,final,--split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5 --points $(OUT)/points$(TAG)-$*.h5 \
	  $(if $(filter-out none,$(KEEP)),--init $(OUT)/$(TEACHER)-$*.h5))

# What all masks would give
$(OUT)/full.h5: $(D) $(OUT)/split-1.0.h5 $(OUT)/rec.h5 $(F)/full
	$(call run,train-res,full,--split $(OUT)/split-1.0.h5 --rec $(OUT)/rec.h5)

# 6. Scores; "box-" = the true box is given and only the contour is predicted
$(OUT)/eval/box-%.h5: $(D) $(OUT)/%.h5 $(F)/evaluate
	$(call run,evaluate,evaluate,--model $(OUT)/$*.h5 --box-prompt)
$(OUT)/eval/%.h5: $(D) $(OUT)/%.h5 $(F)/evaluate
	$(call run,evaluate,evaluate,--model $(OUT)/$*.h5)

# 7. Pictures
$(OUT)/attention$(TAG)-%.h5: $(foreach file,final$(TAG) naive refined$(TAG) points$(TAG) split,$(OUT)/$(file)-%.h5) $(D) $(F)/visualize
	$(call run,visualize-attention,visualize,--model $(OUT)/final$(TAG)-$*.h5 --compare-model $(OUT)/naive-$*.h5 \
	  --pseudo $(OUT)/refined$(TAG)-$*.h5 --points $(OUT)/points$(TAG)-$*.h5 --split $(OUT)/split-$*.h5)

all: $(subst RATIO,$(RATIO),$(FILES)) $(SCORES)

table: $(SCORES)
	@echo; $(SEQRES) evaluate --compare $(SCORES)

report: all table
	@echo; echo "pictures: $$(cd $(OUT) && pwd)/attention$(TAG)-$(RATIO)_figures/index.html"

clean:
	$(made) clean $(call quoted,$(folder))
