# The whole method as a graph of files. Each rule is one call of seqres with a recipe of stages/configs/pipeline-SCALE.toml.
#
#   make -f scripts/pipeline.mk SCALE=smoke OUT=runs/smoke             build everything, show the table
#   make -f scripts/pipeline.mk DATA=refcoco.h5 RATIO=0.01 OUT=runs/refcoco
#   make -f scripts/pipeline.mk RES_FLAGS='--lr 0.001' OUT=runs/slow   flags of a stage, after its recipe (see below)
#   make -f scripts/pipeline.mk TAG=2 TEACHER=final OUT=runs/smoke     then: label once more, by what learned from labels
#
# A second call does nothing. Another RATIO (or other flags of one stage) runs only what depends on it, and a deleted
# file is made again. make compares times, seqres compares content: a rule that make finds out of date asks seqres
# first, and an "up to date" only makes the file newer. With make -j2, branches run side by side; OMP_NUM_THREADS says
# how many cores each may use, and every line of output begins with the file that it is about.

SCALE   ?= smoke
# Share of training referents whose mask may be seen
RATIO   ?= $(or $(if $(filter tiny,$(SCALE)),0.3),$(if $(filter standard,$(SCALE)),0.01),0.05)
SEED    ?= 0
# An existing dataset artifact instead of RefShapes, and the preset of train-rec
DATA    ?=
MODEL   ?= refshapes-small
# What prepare-data and train-rec may use, as all else waits for them (with -j, and OMP_NUM_THREADS for the others)
CORES   ?=
# Which model labels, what the files of its round carry (pseudo2-, final2-RATIO …), what of it is kept: all, encoder, none
TEACHER ?= first
TAG     ?=
KEEP    ?= $(if $(filter tiny,$(SCALE)),none,all)
$(if $(ROUNDS),$(error ROUNDS is now one call a round: TAG=2 TEACHER=final, TAG=3 TEACHER=final2))

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

# OUT, SEQRES and the rule `run`: nothing that make did not make is ever replaced or removed
here := $(shell dirname -- '$(subst ','\'',$(strip $(MAKEFILE_LIST)))')
include $(subst $() ,\ ,$(here))/pipeline_files.mk

# The last round's files and scores. Every file by its name: one that make knows from patterns only would not be made again.
D      := $(or $(DATA),$(OUT)/dataset.h5)
FILES  := $(patsubst %,$(OUT)/%.h5,rec split-RATIO first-RATIO naive-RATIO full \
  $(addsuffix $(TAG)-RATIO,pseudo refined points final attention))
SCORES := $(patsubst %,$(OUT)/eval/%.h5,rec $(addsuffix -$(RATIO),naive first $(if $(TAG),$(TEACHER)) final$(TAG)) full box-full)

.DEFAULT_GOAL := report
.PHONY: all report table clean
# make shall delete no file: seqres leaves only whole ones
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

compare = echo; $(SEQRES) evaluate --compare $(SCORES)
table: $(SCORES)
	@$(compare)

# Looked at last: everything on one page, whose decisions about pseudo masks go into resample-points --decisions
report: all
	@$(compare)
	@echo; $(SEQRES) report $(D) $(subst RATIO,$(RATIO),$(FILES)) $(SCORES) --out $(OUT)/report --quiet $(REPORT_FLAGS)
	@echo; echo "pictures: $$(cd $(OUT) && pwd)/attention$(TAG)-$(RATIO)_figures/index.html"
	@echo "the run:  $$(cd $(OUT) && pwd)/report/index.html"
