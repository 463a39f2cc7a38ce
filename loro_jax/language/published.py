"""Hashes of transcripts that came with the suite before cards had them, by the cards' `arrays_sha256`."""

from __future__ import annotations

PUBLISHED = {
    # episodes/cartpole/qwen2.5-coder-0.5b-instruct-cot
    "f9ad099df1c2f2b75ef6750f701afc2fbc32c1ec74096f55aac8da34729dd665":
    "c133ec2827b7dc4be492a0cb48f2c99862b039ecb1cde2bf586f661c3bb391b0",
    # episodes/cartpole/qwen2.5-coder-0.5b-instruct-cot-vote5
    "a12446204c275fd215b463394a5f02928f2e0301a770c7e83e0a65bda5df3b09":
    "f3169994de96e09a73d5770822cdd07da6ed792feef53c5976e04555c69d3a1c",
    # episodes/cartpole/qwen2.5-coder-0.5b-instruct-direct
    "9c9ac43c5c8263c43d9214138f2cc74a464c600ec8361ca7881e0a9986732a58":
    "af31434b924305d0a15a5642a9200d59efbcbae97a62781067f5eb212d28b582",
    # episodes/cartpole/qwen2.5-coder-0.5b-instruct-hint
    "d9a8b85fe2d6e4549db6924f2833019def73f6086ba78d581c15cf92cf21e803":
    "4270e615faac308397b7a869848a007cce1abbfe3c0b3973f6809cca9eda916c",
    # episodes/cartpole/smollm2-135m-instruct-hint
    "3af465910832077a1c8e40e29bce7fe32956acf59a5d907765f9493ec33c277d":
    "1772911953204134473a170f3f7eecf2c0b1da397b067ed745e9a67e9a7bf42c",
    # episodes/cartpole/smollm2-135m-instruct-plain
    "724484b2e01f5698c6f60c89d6b29a5725ffefc26435a6d11f522f75768797d8":
    "1b8326e621b99b907205113d20fddedffa2ecc6df3c2ecac157e6829c62d1df1",
    # episodes/cliff_walking/qwen2.5-coder-0.5b-instruct-cot
    "a86c4b2969dd1717860dd3fe158569812b8de717517448bd62a04842796802ed":
    "6fec2bbcd424ad1ef75b8d108279c80714b772b54c38ab160107f78274c5e1dc",
    # episodes/cliff_walking/smollm2-135m-instruct-cot
    "a677ba2c145ecbfd26767aa028aecd4fd06ceffe6e4012669f5e82a0e65d3cfb":
    "30771e361596730c2d9f07f3a01c868c52467fc4e3f435699e52c1fff8dfb681",
    # episodes/frozen_lake/qwen2.5-coder-0.5b-instruct-cot
    "b52d6f2d83eb31a3f3daf2b532e6c5474c01845c20e304ade53b8029984fecc5":
    "d28f79db5c212ba7997aa4a67662417e1b97eb3984a73e6cabf39e162fffa7b6",
    # episodes/frozen_lake/qwen2.5-coder-0.5b-instruct-cot-vote5
    "92d627c44f83089fa2492d02b45f636b4765317f8afa9f833c8110170bc325da":
    "3642f65aa2df380002312de2ccc024142681d4695b61250164320c1c51fe75fc",
    # episodes/frozen_lake/qwen2.5-coder-0.5b-instruct-direct
    "02e3f981af875a806b62999fd6c187111e048cfcc195327e0aa6b2a19b64a2f3":
    "7047c477761774b17beb3a50e166abb3853cde0fb8d9e87deb38299605e0c62b",
    # episodes/frozen_lake/smollm2-135m-instruct-cot
    "6e5f8b241df8efe0b81ad8623fdad32477076a3142ee2f363de5f5e6ac9f941d":
    "32dd3516ce6dd6beef1fb72e2bfa253e8121c6bf419d0de3baf6af924624b1c7",
    # episodes/mountain_car/qwen2.5-coder-0.5b-instruct-cot
    "15d98d47afc727aebacc16f9e4236069d3b7c64feb27c567d0ca3f3c0ece7306":
    "593ce3dfd5c4eba6fcc521a69792ec1d3069a55e97ad474018b9df03ea672904",
    # episodes/mountain_car/qwen2.5-coder-0.5b-instruct-hint
    "fb36542036e69c09d98e9e4f82af2dea39bdd0f273af20c4e5c02364b095734b":
    "a8ebce58c015fcb6343c2e6b2d4b95c3f0e259de8186a5647787583583be9137",
    # episodes/mountain_car/smollm2-135m-instruct-cot
    "a0d9dd8ef296dbd2b8a4249578c152f49e5321a44277b5b9aa232b48807a4217":
    "450e1ad9246b3a8ad5946a18b5df316c4377689b420eb5baa079b5d0a3643e0c",
    # episodes/pendulum/qwen2.5-coder-0.5b-instruct-cot-grammar
    "16afa9b0c499520dff41fa197e41debf81d03cb2f44a8c129ffaaf3b46f40f24":
    "015804a200d4881eda5cb8ea592aa181576038890c152e9369562aad6d82729a",
    # episodes/pendulum/smollm2-135m-instruct-cot-grammar
    "0bf1b93957a5066481447f2e6f8f62710fa4aa1c28ae07f7c27e803eb08c55db":
    "b27d63280b6a977cf18689b450149afd0567f6a6921725e2876c002d4864bfc5",
    # episodes/pong/qwen2.5-coder-0.5b-instruct-hint
    "254b5772330e4b53daaa4e2bd6bf9d083fa0451eb48353857404b7ec6d3fd34b":
    "89d8e5f98003d266dafa8b5b0e289cdbf6595e2f38ece63ab359ea8c157eb1d0",
    # episodes/pong/smollm2-135m-instruct-cot
    "54a38b7ef652154435b357474a9bdb7ef7bfd8c123fd8d56275c5dfa3eede721":
    "4c60afac6fd117e5e26684039bdbae3fe7e389e337bcc4cb9de9d00401544879",
    # answers/cartpole/qwen2.5-coder-0.5b-instruct-rate
    "f30947e557c520084f9c55f1b10494aa8e9691efddd24785574b4785f8e67295":
    "b20a7076dc11cf090bb0cb7d224b8e9bb76ca5b5d262f5687785cb46b7eebf91",
    # answers/cliff_walking/qwen2.5-coder-0.5b-instruct-cell
    "4e86ab228364719c4d4a82eecea270bc182ff8177b6eae6d987e58d45966ee89":
    "d9df20e5a2de0e7da7af94fdb60d7081078ba9d13e03f3c72de7f1576c38b799",
    # answers/cliff_walking/qwen2.5-coder-0.5b-instruct-map
    "6bc3d06475514c56aebd5dcbb966f6625f355876a67227b5e4bdaca6d84ae972":
    "8072c925af007cd2039314c530f9a8397c0d635fd0fa3adccfc5062b641dd4ba",
    # answers/cliff_walking/qwen2.5-coder-1.5b-instruct-cell
    "94601c003775daef3c2e93d7a0ab42896393e6b65479f57b872b4c1ce35af5a3":
    "1d7b03c6274a59f5a91478ed51a413c9dee31b03d7742eb2a2ec945160c26f75",
    # answers/cliff_walking/qwen2.5-coder-1.5b-instruct-map
    "53a89448883c72a3e161e12dab725973aa64e8541e7a237744de54991f9ede86":
    "5d283ba98bd64b01cf545ea349fb45fbebdd200e5080631d0aab339cc0f2ebff",
    # answers/cliff_walking/smollm2-135m-instruct-cell
    "2c85f963c7e7e2bd12d28ca0b710ab70aecb370a51c442a37543ea16f63e20df":
    "eb15b30904108ecfe3b4537fe8c928b1d98b918821a9410c170d408fcc8a70f2",
    # answers/cliff_walking/smollm2-135m-instruct-map
    "02dcd4f6ffbfff2ceb37f90865473fadcfad30fee5a3741893d30004ab1f222e":
    "a8664bd4bd4fd104d12cf9f5f9564a4aa5df537ffce5ca9cc36aaf2d4726f141",
    # answers/frozen_lake/qwen2.5-coder-0.5b-instruct-cell
    "9ad989ead4ba9e65c3f2dd2554d24d7c6e82fc6fa3213d101ac36e7b024398f2":
    "2873b18e0ff210c7e53c6a8a819e5dc17113f09fb0d41cec1ad80c66cd38d65a",
    # answers/frozen_lake/qwen2.5-coder-0.5b-instruct-map
    "92d99576a87dff5ead347fa92b3b3ff1030a49e8eebe3904eb037ace49e7f3f0":
    "9d757b99be4c4e64db9d10ca2271bdf241aed39005f9f928749446e57b6b8940",
    # answers/frozen_lake/qwen2.5-coder-1.5b-instruct-cell
    "a31507a00e5933d62701bc3fe7f66a79aeb1eefce93896fbe6b38810f30f16ab":
    "e728281d46d3cc957130fd8a908810ff1cfa59eb2d30e759927c019bd2ecf51e",
    # answers/frozen_lake/qwen2.5-coder-1.5b-instruct-map
    "b0d3317e2a0e8d61bf552828e03232ede038a66a5077d2cf4e8e18891798b33c":
    "fcb1f4d0cb509bafc635af5b20b2e303e9bce0529ed08e9bb82c1a7e562eb263",
    # answers/frozen_lake/smollm2-135m-instruct-cell
    "2461f7e282b0491f66c96e3a9d641e65a191e13164efd49df63ba8617ad03ce4":
    "918937b9190668a0d5ecf2596b5b0ba84cef08bdbd57496dcf52d0558348b0c7",
    # answers/frozen_lake/smollm2-135m-instruct-map
    "7ba36211f54debc4f9b70715caf22f9cceda58309e7eeadd9fdcd2910f092b46":
    "0181e96ead6fae03cc1ed350471ceb1336f807412ba754c5ebbc9c71525638dc",
    # answers/mountain_car/qwen2.5-coder-0.5b-instruct-hint
    "e1a9d81b8d8d306abb12e88734ce444794bb78bf6288cdb74326806d8692f4eb":
    "308cb395f528395777fbf3dccf9fd5dfd2a67c2a4a9ef61b47382f29031697aa",
    # answers/mountain_car/qwen2.5-coder-1.5b-instruct-hint
    "367ae334fed9226156acd1c11ec0e822dd8dde4b420319d28247e0de08fa94e8":
    "be5a2f77edb59e092fe88d4abd69360073ce74d5d796fa2be822d503d6abee0c",
    # answers/mountain_car/smollm2-135m-instruct-hint
    "fe7c18b21176123a9a78e1eac74bdb4e2bb37a184cfd74e33c7357a0b00ea5cb":
    "d7722f85667105a424537ae58fd72af4746fd99c7b83abf8e588b5d37a83d83e",
    # answers/pendulum/qwen2.5-coder-0.5b-instruct-cot-grammar
    "41dfb67a5a289efe5e99c302ce9a7f394f50dd779971e8ae524eb82c27c74b8b":
    "160e5cf82d47d3fa47b2699eebb7d461d77f79d4e0d294aa7f879c448885f0dc",
    # answers/pong/qwen2.5-coder-0.5b-instruct-hint
    "9b94b1a5ae0060da54d41656ebf942ec6e5e7c146e113b78e50603611c17a777":
    "47234ed405d6c7e4a5b5a56182cfd9d7714506ba296611adf53306113e5f84e6",
}  # fmt: skip
