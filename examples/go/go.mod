module example/sae

go 1.19
